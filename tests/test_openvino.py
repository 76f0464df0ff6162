"""OpenVINO: the same vectors and logits, and what says when it is used."""

import subprocess
import sys

import numpy as np
import pytest
import tiny_models
from running import configured, run_index, write_jsonl
from test_encoder import KINDS, PADDED, described, reference
from test_scorer import BOTH, own_logits, tokenised
from tiny_models import TEXTS

from pipelines.errors import ModelError
from pipelines.models import computing
from pipelines.models.computing import Computing, Means, choose
from pipelines.models.encoder import Encoder
from pipelines.models.load import describe_scorer, locate
from pipelines.models.processor import resolve_dtype
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize

pytest.importorskip("openvino", reason="needs the extra openvino")
PACKED = sorted({"bundled", *KINDS} - PADDED)


# What is before and behind the network, torch's tests try.
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in PACKED])
def test_vectors_are_those_of_sentence_transformers(kind, tmp_path):
    folder = tiny_models.bundled_encoder()
    if kind != "bundled":
        folder = tiny_models.encoder(tmp_path / kind, **KINDS[kind])
    spec = described(folder)
    tokens, _ = Tokenize(spec.tokenizer, spec.max_tokens)([spec.prompt + text for text in TEXTS])
    expected = reference(spec).encode_document(TEXTS)
    heard = []
    for budget in (40, 4096):
        encoder = Encoder(spec, dtype="float32", backend="openvino", batch_tokens=budget)
        assert (encoder.backend, encoder.packed) == ("openvino", False)
        heard.clear()
        vectors = encoder.encode(tokens, lambda *batch: heard.append(batch))
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    # In one micro-batch all are padded to the longest, and that is told.
    assert heard == [(len(TEXTS), len(tokens.ids), len(TEXTS) * tokens.lengths.max())]
    queries = encoder.encode_texts(TEXTS, "query")
    np.testing.assert_allclose(queries, reference(spec).encode_query(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "family",
    [
        "bundled",
        *(
            pytest.param(family, marks=pytest.mark.slow)
            for family in ("bert", "roberta", "electra")
        ),
    ],
)
@pytest.mark.parametrize("max_length", [None, 40])
def test_logits_are_those_of_cross_encoder(family, max_length, tmp_path):
    folder = family
    if family != "bundled":
        folder = str(tiny_models.scorer(tmp_path / family, family=family))
    spec = describe_scorer(locate(folder, None, "scorer"), max_length=max_length)
    queries, passages = tokenised(spec)
    scorer = Scorer(spec, dtype="float32", backend="openvino", batch_tokens=200)
    logits, cut, _ = scorer.score(queries, passages, BOTH)
    expected, other_cut, _ = Scorer(spec, dtype="float32", backend="torch").score(
        queries, passages, BOTH
    )
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert cut.tolist() == other_cut.tolist()
    if not cut.any():  # where a query is cut as well, the library reads another pair
        np.testing.assert_allclose(logits, own_logits(spec), atol=1e-4)


@pytest.mark.skipif(
    resolve_dtype("auto", "cpu") != "bfloat16", reason="the processor does not compute in bfloat16"
)
def test_bfloat16_is_near_and_what_auto_stands_for():
    spec = described(tiny_models.bundled_encoder())
    encoder = Encoder(spec, device="cpu")
    assert (encoder.backend, encoder.dtype) == ("openvino", "bfloat16")
    near = (encoder.encode_texts(TEXTS, "document") * reference(spec).encode(TEXTS)).sum(1)
    assert near.min() > 0.9995
    exact = Encoder(spec, dtype="float32", device="cpu")
    assert exact.backend == "torch"


def test_a_run_by_openvino_writes_the_same_vectors(cluster, small_encoder, tmp_path):
    found = {}
    for backend in ("torch", "openvino"):
        folder = tmp_path / backend
        folder.mkdir()
        rows = [{"id": f"d{n}", "text": text} for n, text in enumerate(TEXTS) if text]
        write_jsonl(folder / "corpus.jsonl", rows)
        summary = run_index(configured(folder, small_encoder, encoder={"backend": backend}))
        assert summary.models["backend"] == backend
        assert summary.models["dtype"] == "float32"
        import lance

        table = lance.dataset(str(folder / "index" / "chunks.lance")).to_table()
        table = table.sort_by("chunk_id")
        found[backend] = np.array(table["vector"].to_pylist())
    np.testing.assert_allclose(found["openvino"], found["torch"], atol=1e-5)


def means(*, gpu=False, dtype="bfloat16", openvino=True, nncf=False):
    return Means(gpu, dtype, openvino, nncf)


@pytest.mark.parametrize(
    ("backend", "dtype", "has", "expected"),
    [
        ("auto", "auto", means(), ("openvino", "bfloat16")),
        ("auto", "bfloat16", means(), ("openvino", "bfloat16")),
        ("auto", "auto", means(openvino=False), ("torch", "bfloat16")),
        ("auto", "auto", means(dtype="float32"), ("torch", "float32")),
        ("auto", "float32", means(), ("torch", "float32")),
        # Emulated, it is slower by an order of magnitude: so it is nobody's choice but the user's.
        ("auto", "bfloat16", means(dtype="float32"), ("torch", "bfloat16")),
        ("auto", "auto", means(gpu=True), ("torch", "bfloat16")),
        ("torch", "auto", means(), ("torch", "bfloat16")),
        ("openvino", "auto", means(dtype="float32"), ("openvino", "float32")),
    ],
)
def test_what_is_chosen(backend, dtype, has, expected, small_encoder):
    chosen = choose(backend, dtype, has, described(small_encoder))
    assert (chosen.backend, chosen.dtype) == expected
    # A worker that has no GPU of its own does not take one that it sees.
    assert chosen.device == (None if has.gpu else "cpu")
    assert chosen.fixed == (backend == "openvino")


@pytest.mark.parametrize(
    ("dtype", "has", "kind", "says"),
    [
        ("auto", means(gpu=True), "prompts", "is for processors"),
        ("auto", means(openvino=False), "prompts", "pip install 'tandem-retrieval"),
        ("auto", means(), "dense", "is not for model .*; set it to auto"),
        ("float16", means(), "prompts", "does not compute in float16; set dtype to auto"),
    ],
)
def test_what_openvino_cannot_is_refused(dtype, has, kind, says, tmp_path):
    spec = described(tiny_models.encoder(tmp_path / kind, **KINDS[kind]))
    with pytest.raises(ModelError, match=says):
        choose("openvino", dtype, has, spec)
    assert choose("auto", "auto", means(), spec).backend == (
        "torch" if spec.packed is None else "openvino"
    )


def test_a_run_that_openvino_cannot_do_writes_nothing(cluster, tmp_path):
    encoder = tiny_models.encoder(tmp_path / "model", dense=True)
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": "a", "text": "One."}])
    with pytest.raises(ModelError, match="set it to auto"):
        run_index(configured(tmp_path, encoder, encoder={"backend": "openvino"}))
    assert not (tmp_path / "index").exists()


def test_a_machine_without_it(monkeypatch, small_encoder):
    monkeypatch.setattr(computing, "find_spec", lambda name: None)
    # Where another machine of the cluster was asked, auto is what can be here.
    assert Computing("openvino", "bfloat16", fixed=False).backend_here == "torch"
    assert Computing("openvino", "bfloat16").backend_here == "openvino"
    spec = described(small_encoder)
    assert Encoder(spec, device="cpu").backend == "torch"
    with pytest.raises(ModelError, match="not installed"):
        Encoder(spec, device="cpu", backend="openvino")


QUIET = """
import sys
from pipelines.models.encoder import Encoder
from pipelines.models.load import describe_encoder, locate
spec = describe_encoder(locate(sys.argv[1], None, "encoder"))
encoder = Encoder(spec, device="cpu", backend="openvino")
encoder.encode_texts(["one"], "document")
names = [name for name, module in sys.modules.items() if module is not None]
print([name for name in names if name.startswith("openvino_telemetry")], "openvino" in names)
"""


def printed_by(code, *arguments):
    """What another interpreter prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_nobody_is_told_what_runs(small_encoder):
    assert printed_by(QUIET, small_encoder).splitlines()[0] == "[] True"
