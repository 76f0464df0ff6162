"""Models for clusters that reach no hub: put into a folder or a bucket, checked when loaded."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.__main__ import app
from pipelines.errors import ModelError
from pipelines.models.load import describe_encoder, describe_scorer
from pipelines.models.locate import locate
from pipelines.models.manifest import MANIFEST
from pipelines.models.on_node import on_this_node
from pipelines.storage.objects import ObjectPath


def fetched(*words):
    """The folders that the command tells."""
    result = CliRunner().invoke(app, ["models", "fetch", *map(str, words)])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if " is at " in line]
    return [line.partition(" is at ")[2] for line in lines], result.stdout


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache of this node's that nothing is in."""
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fetched"


def test_a_model_that_was_fetched_is_the_same_model(cache, small_encoder, small_scorer, tmp_path):
    (encoder, scorer), _ = fetched(small_encoder, small_scorer, "--to", tmp_path / "models")
    assert Path(encoder).parent.parent == tmp_path / "models"
    first = describe_encoder(locate(str(small_encoder), None, "encoder"))
    again = describe_encoder(locate(encoder, None, "encoder"))
    assert again.fingerprint == first.fingerprint
    assert describe_scorer(locate(scorer, None, "scorer")).fingerprint
    manifest = json.loads((Path(encoder) / MANIFEST).read_text())
    assert {"config.json", "model.safetensors"} <= {file["path"] for file in manifest["files"]}
    again, said = fetched(small_encoder, "--to", tmp_path / "models")
    assert again == [encoder]
    assert "is there already" in said


def test_what_was_altered_is_not_loaded(cache, small_encoder, tmp_path):
    (folder,), _ = fetched(small_encoder, "--to", tmp_path / "models")
    weights = Path(folder) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"model.safetensors is not the file that was fetched"):
        locate(folder, None, "encoder")
    fetched(small_encoder, "--to", tmp_path / "models")
    assert locate(folder, None, "encoder")
    (Path(folder) / MANIFEST).write_text("{")
    fetched(small_encoder, "--to", tmp_path / "models")
    assert locate(folder, None, "encoder")


@pytest.mark.s3
def test_a_model_in_a_bucket_is_downloaded_once_a_node(cache, bucket, small_encoder):
    options = [f"--option={key}={value}" for key, value in bucket.options.items()]
    (url,), _ = fetched(small_encoder, "--to", f"{bucket.url}/models", *options)
    assert url.startswith(f"{bucket.url}/models/{small_encoder.name}/")
    own = tuple(sorted(bucket.options.items()))
    spec = describe_encoder(locate(url, None, "encoder", own))
    assert spec.fingerprint == describe_encoder(locate(str(small_encoder), None, "x")).fingerprint
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    made = folder.stat().st_ctime_ns
    assert on_this_node(spec, own).folder == str(folder)
    assert folder.stat().st_ctime_ns == made
    shutil.rmtree(cache)  # another node has none
    assert Path(on_this_node(spec, own).folder).is_dir()
    weights = folder / "model.safetensors"  # as a full disk leaves it
    weights.write_bytes(weights.read_bytes()[:100])
    assert on_this_node(spec, own).folder == str(folder)
    assert weights.stat().st_size > 100
    ObjectPath.of(f"{url}/model.safetensors", bucket.options).write_bytes(b"cut")
    fetched(small_encoder, "--to", f"{bucket.url}/models", *options)
    shutil.rmtree(cache)
    assert on_this_node(spec, own)


@pytest.mark.s3
def test_a_bucket_without_a_model_is_told(cache, bucket):
    options = tuple(sorted(bucket.options.items()))
    with pytest.raises(ModelError, match=r"no model at s3://.*/nothing; put one there with"):
        locate(f"{bucket.url}/nothing", None, "encoder", options)


def test_another_model_on_another_node_is_refused(small_encoder, tmp_path):
    shutil.copytree(small_encoder, tmp_path / "model")
    spec = describe_encoder(locate(str(tmp_path / "model"), None, "encoder"))
    assert on_this_node(spec).folder == spec.folder
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"not the one that the run began with \(weights\)"):
        on_this_node(spec)
    gone = replace(spec, folder=str(tmp_path / "gone"), name=str(tmp_path / "gone"))
    with pytest.raises(ModelError, match="There is no folder"):
        on_this_node(gone)


def test_wrong_options_are_told(tmp_path):
    result = CliRunner().invoke(app, ["models", "fetch", "x", "--to", str(tmp_path), "--option=a"])
    assert result.exit_code == 2
    assert "--option takes KEY=VALUE, not 'a'" in result.stderr
