"""Models are found, checked before they are loaded, described, and told apart."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch

from pipelines.errors import ModelError
from pipelines.models.load import (
    EncoderSpec,
    describe_encoder,
    describe_scorer,
    locate,
    resolve_dtype,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "model"
    return tiny_models.encoder(path, dense=True, prompts={"document": "doc: ", "query": "ask: "})


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def described(folder: Path, **options: str) -> EncoderSpec:
    return describe_encoder(locate(str(folder), None, "encoder"), **options)  # type: ignore[arg-type]


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def differing(one: EncoderSpec, other: EncoderSpec) -> set[str]:
    assert (one.fingerprint == other.fingerprint) == (one.parts == other.parts)
    assert set(one.parts) == set(other.parts)
    return {name for name in one.parts if one.parts[name] != other.parts[name]}


def test_bundled_models() -> None:
    encoder = describe_encoder(locate("bundled", None, "encoder"))
    assert (encoder.dimension, encoder.max_tokens, encoder.prompt) == (384, 256, "")
    scorer = describe_scorer(locate("bundled", None, "scorer"), max_length=None)
    assert (scorer.max_length, scorer.labels, scorer.label) == (512, 1, 0)


def test_a_spec_can_be_sent(original: Path) -> None:
    spec = described(original)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert (spec.dimension, spec.max_tokens) == (24, 64)
    assert (spec.prompt, spec.query_prompt, spec.revision) == ("doc: ", "ask: ", None)
    assert (spec.name, spec.folder) == (str(original), str(original.resolve()))


def test_a_copy_is_the_same_model(original: Path, model: Path) -> None:
    edit(model / "config.json", lambda c: c.update(_name_or_path="x", transformers_version="9"))
    edit(model / "config.json", lambda c: c.update(dtype="float16"))
    (model / "README.md").write_text("Another one.")
    edit(model / "config_sentence_transformers.json", lambda c: c.update(similarity_fn_name="dot"))
    assert differing(described(original), described(model)) == set()
    assert differing(described(original), described(model, prompt="doc: ")) == set()


def test_what_makes_another_model(original: Path, model: Path) -> None:
    before = described(original)
    assert differing(before, described(model, prompt="")) == {"prompt"}
    edit(model / "1_Pooling" / "config.json", lambda c: c.update(pooling_mode="cls"))
    assert differing(before, described(model)) == {"pooling"}
    edit(model / "sentence_bert_config.json", lambda c: c.update(max_seq_length=32))
    assert differing(before, described(model)) == {"pooling", "max_length"}
    edit(model / "config.json", lambda c: c.update(layer_norm_eps=1e-6))
    assert differing(before, described(model)) == {"pooling", "max_length", "modules"}


def test_other_weights_make_another_model(original: Path, tmp_path: Path) -> None:
    prompts = {"document": "doc: ", "query": "ask: "}
    other = tiny_models.encoder(tmp_path / "other", dense=True, prompts=prompts, seed=1)
    assert differing(described(original), described(other)) == {"weights"}
    same = tiny_models.encoder(tmp_path / "same", dense=True, prompts=prompts)
    assert differing(described(original), described(same)) == set()
    raw = tiny_models.encoder(tmp_path / "raw", dense=True, prompts=prompts, normalise=False)
    assert differing(described(original), described(raw)) == {"normalisation", "modules"}


def test_another_tokeniser_makes_another_model(original: Path, model: Path) -> None:
    edit(model / "tokenizer.json", lambda t: t["normalizer"].update(strip_accents=False))
    assert differing(described(original), described(model)) == {"tokenizer"}


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    for name in ("./not/there", str(tmp_path / "gone"), "~/gone/for/good", "a/b/c", ""):
        with pytest.raises(ModelError, match="There is no folder"):
            locate(name, None, "encoder")
    with pytest.raises(ModelError, match="nor a name on the hub"):
        locate("two words", None, "encoder")
    with pytest.raises(ModelError, match="holds no model"):
        locate(str(tmp_path), None, "encoder")


def test_weights_that_are_missing_or_cut_short(model: Path, tmp_path: Path) -> None:
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    locate(str(model), None, "encoder")
    for damaged in (b"", whole[:6], whole[:100], whole[:-4], whole + b"more", b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match="cut short or damaged"):
            locate(str(model), None, "encoder")
    (model / "2_Dense" / "pytorch_model.bin").write_bytes(whole)
    (model / "2_Dense" / "model.safetensors").rename(tmp_path / "dense")
    with pytest.raises(ModelError, match=r"no weights in safetensors format in .*2_Dense"):
        locate(str(model), None, "encoder")
    (tmp_path / "dense").rename(model / "2_Dense" / "model.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    weights.write_bytes(whole)
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="lacks the file model-00001-of-00002"):
        locate(str(model), None, "encoder")
    for path in model.rglob("*.safetensors*"):
        path.unlink()
    (model / "pytorch_model.bin").write_bytes(whole)
    with pytest.raises(ModelError, match="no weights in safetensors format"):
        locate(str(model), None, "encoder")


def test_a_model_that_does_not_load(model: Path) -> None:
    edit(model / "config.json", lambda c: c.update(hidden_size=48))
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        described(model)
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)
    (model / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        described(model)


def test_code_of_a_models_own_is_refused(model: Path) -> None:
    (model / "own.py").write_text("raise SystemExit('this must not run')")
    edit(model / "config.json", lambda c: c.update(auto_map={"AutoModel": "own.Model"}))
    with pytest.raises(ModelError, match=r"own\.Model.*trust\.remote_code"):
        described(model)
    edit(model / "config.json", lambda c: c.pop("auto_map"))
    described(model)
    edit(model / "2_Dense" / "config.json", lambda c: c.update(activation_function="own.Act"))
    with pytest.raises(ModelError, match=r"own\.Act.*trust\.remote_code"):
        described(model)
    modules = json.loads((model / "modules.json").read_text())
    modules[0]["type"] = "own.Transformer"
    (model / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=r"own\.Transformer.*trust\.remote_code"):
        described(model)


def test_code_that_is_trusted_is_run_and_is_part_of_the_model(model: Path) -> None:
    own = (
        "from sentence_transformers.base.modules import Normalize\nclass Own(Normalize):\n  pass\n"
    )
    (model / "own_module.py").write_text(own)
    modules = json.loads((model / "modules.json").read_text())
    modules[-1]["type"] = "own_module.Own"
    (model / "modules.json").write_text(json.dumps(modules))
    located = locate(str(model), None, "encoder")
    spec = describe_encoder(located, trust_remote_code=True)
    assert spec.trust_remote_code
    assert spec.tokenizer is None
    (model / "own_module.py").write_text(own + "# changed\n")
    assert differing(spec, describe_encoder(located, trust_remote_code=True)) == {"code"}


def test_number_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_dtype("float16", "cpu") == "float16"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert resolve_dtype("auto", "cpu") == "bfloat16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert resolve_dtype("auto", "cpu") == "float32"
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert resolve_dtype("auto", "cpu") == "float32"
    for capability, expected in (((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert resolve_dtype("auto", "cuda:0") == expected


LOCATE_OFFLINE = """
from pipelines.models.load import locate
for name in ("cross-encoder/tiny", "tiny", "some/other"):
    try:
        found = locate(name, None, "scorer")
        print(found.revision, found.folder.endswith(found.revision))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_models_of_the_hub_without_a_network(model: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--cross-encoder--tiny"
    shutil.copytree(model, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    done = subprocess.run(
        [sys.executable, "-c", LOCATE_OFFLINE],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    full, bare, other = done.stdout.splitlines()
    assert full == bare == f"{commit} True"
    assert other.startswith("ModelError Model some/other is not here and the hub cannot be reached")
