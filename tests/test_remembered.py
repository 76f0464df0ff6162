"""What was found out about a model is not found out again until something is other."""

import os
from pathlib import Path

import pytest
import tiny_models

from pipelines.models import describe
from pipelines.models.load import describe_encoder, describe_scorer, locate


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    encoder = tiny_models.encoder(folder / "encoder", prompts={"query": "q: ", "document": "d: "})
    return encoder, tiny_models.scorer(folder / "scorer", labels=2)


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """Which models were really loaded; the cache is empty at first."""
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    names = []
    for kind in ("open_encoder", "open_scorer"):
        own = getattr(describe, kind)

        def opened(name, *rest, own=own):
            names.append(name)
            return own(name, *rest)

        monkeypatch.setattr(describe, kind, opened)
    return names


def encoder_at(path, **asked):
    return describe_encoder(locate(str(path), None, "encoder"), **asked)


def scorer_at(path, **asked):
    return describe_scorer(locate(str(path), None, "scorer"), **asked)


def test_a_model_is_loaded_once_for_each_question(models, loaded):
    encoder, scorer = models
    first = encoder_at(encoder), scorer_at(scorer, label=1)
    assert len(loaded) == 2
    assert (encoder_at(encoder), scorer_at(scorer, label=1)) == first
    assert len(loaded) == 2
    assert encoder_at(encoder, prompt="x ").prompt == "x "
    assert scorer_at(scorer, label=0).label == 0
    assert scorer_at(scorer, label=0, max_length=40).max_length == 40
    assert len(loaded) == 5


def test_a_changed_file_is_seen(models, loaded):
    weights = models[0] / "model.safetensors"
    first = encoder_at(models[0])
    told = weights.stat()
    os.utime(weights, ns=(told.st_atime_ns, told.st_mtime_ns + 1))
    assert encoder_at(models[0]) == first
    assert len(loaded) == 2


@pytest.mark.parametrize("state", ["off", "damaged", "read-only"])
def test_without_a_cache_it_is_found_out_again(models, loaded, monkeypatch, tmp_path, state):
    if state == "off":
        monkeypatch.setenv("TANDEM_CACHE", "")
    if state == "read-only":
        (tmp_path / "cache").write_text("a file where the folder should be")
    first = encoder_at(models[0])
    if state == "damaged":
        (file,) = Path(tmp_path / "cache").glob("*.json")
        file.write_text("{")
    assert encoder_at(models[0]) == first
    assert len(loaded) == 2


def test_without_the_variable_it_is_in_the_users_cache(models, loaded, monkeypatch, tmp_path):
    monkeypatch.delenv("TANDEM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    encoder_at(models[0])
    assert len(list((tmp_path / "home" / "tandem" / "models").glob("*.json"))) == 1
