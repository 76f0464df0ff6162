"""Logits are those of CrossEncoder.predict, in any order and any micro-batches."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from sentence_transformers import CrossEncoder
from tiny_models import QUERIES

from pipelines.errors import ModelError
from pipelines.models.load import ScorerSpec, describe_scorer, locate
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize, Tokens

TEXTS = [text for text in tiny_models.TEXTS if text]  # longer than the queries, or not cut
BOTH = np.array([(q, p) for q in (0, 3) for p in range(len(TEXTS))], np.int32)
TEXT_PAIRS = [(QUERIES[q], TEXTS[p]) for q, p in BOTH]


def described(folder: str | Path, max_length: int | None = None) -> ScorerSpec:
    return describe_scorer(locate(str(folder), None, "scorer"), max_length=max_length)


def own_logits(spec: ScorerSpec) -> np.ndarray:
    model = CrossEncoder(
        spec.folder,
        device="cpu",
        max_length=spec.max_length,
        model_kwargs={"dtype": torch.float32},
        local_files_only=True,
    )
    logits = model.predict(TEXT_PAIRS, activation_fn=torch.nn.Identity(), batch_size=3)
    return np.asarray(logits)


def tokenised(spec: ScorerSpec) -> tuple[Tokens, Tokens]:
    assert spec.tokenizer is not None
    tokenize = Tokenize(spec.tokenizer, 10_000, special=False)
    return tokenize(QUERIES)[0], tokenize(TEXTS)[0]


@pytest.fixture(scope="module", params=["bundled", "bert", "roberta", "electra"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "bundled":
        return "bundled"
    path = tmp_path_factory.mktemp("scorers") / request.param
    return str(tiny_models.scorer(path, family=request.param))


@pytest.mark.parametrize("max_length", [None, 40])
def test_logits_are_those_of_cross_encoder(folder: str, max_length: int | None) -> None:
    spec = described(folder, max_length)
    expected = own_logits(spec)
    queries, passages = tokenised(spec)
    assert spec.template is not None
    assert spec.packed is not None
    longer = passages.lengths[BOTH[:, 1]] + queries.lengths[BOTH[:, 0]]
    longer += spec.template.special_tokens
    heard: list[tuple[int, int]] = []
    for batch_tokens in (150, 4_096):
        scorer = Scorer(spec, dtype="float32", device="cpu", batch_tokens=batch_tokens)
        logits, cut, _ = scorer.score(
            queries, passages, BOTH, lambda rows, count, padded: heard.append((rows, count))
        )
        assert (logits.dtype, logits.shape) == (np.float32, (len(BOTH),))
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert (cut > 0).sum() == (longer > spec.max_length).sum()
        assert sum(rows for rows, _ in heard) == len(BOTH)
        heard.clear()
    shuffled = np.random.default_rng(1).permutation(len(BOTH))
    logits, _, _ = scorer.score(queries, passages, BOTH[shuffled])
    np.testing.assert_allclose(logits, expected[shuffled], atol=1e-4)
    np.testing.assert_allclose(scorer.score_texts(TEXT_PAIRS), expected, atol=1e-4)
    assert scorer.score(queries, passages, BOTH[:0])[0].shape == (0,)


@pytest.mark.parametrize("kind", ["prompt", "chat"])
def test_a_model_with_a_template_of_its_own_takes_texts(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    build = tiny_models.chat_scorer
    spec = described(build(path) if kind == "chat" else tiny_models.scorer(path, prompt="find "))
    assert (spec.tokenizer, spec.template, spec.label) == (None, None, 0)
    scorer = Scorer(spec, dtype="float32", device="cpu", batch_tokens=300)
    np.testing.assert_allclose(scorer.score_texts(TEXT_PAIRS), own_logits(spec), atol=1e-4)
    assert scorer.score_texts([]).shape == (0,)
    with pytest.raises(ModelError, match="takes texts only"):
        scorer.score(*tokenised(described("bundled")), BOTH)


def test_one_label_of_several(tmp_path: Path) -> None:
    model = locate(str(tiny_models.scorer(tmp_path / "model", labels=3)), None, "scorer")
    with pytest.raises(ModelError, match="3 labels a pair and none is named"):
        describe_scorer(model)
    with pytest.raises(ModelError, match="has no label 3"):
        describe_scorer(model, label=3)
    spec = describe_scorer(model, label=2)
    assert spec.labels == 3
    scorer = Scorer(spec, dtype="float32", device="cpu")
    expected = own_logits(spec)[:, 2]
    np.testing.assert_allclose(scorer.score(*tokenised(spec), BOTH)[0], expected, atol=1e-4)
    np.testing.assert_allclose(scorer.score_texts(TEXT_PAIRS), expected, atol=1e-4)
    assert spec.fingerprint != describe_scorer(model, label=1).fingerprint


def test_lengths(tmp_path: Path) -> None:
    for family in ("bert", "roberta"):  # RoBERTa has 66 positions, of which two are not for tokens
        model = tiny_models.scorer(tmp_path / family, family=family)
        assert described(model).max_length == 64
        assert described(model, 50).max_length == 50
        assert described(model).fingerprint != described(model, 50).fingerprint
        with pytest.raises(ModelError, match=r"at most 64 tokens; reranker\.max_length is 65"):
            described(model, 65)
        with pytest.raises(ModelError, match="no room"):
            described(model, 4)


def test_a_model_without_a_head_is_no_scorer(tmp_path: Path) -> None:
    model = tiny_models.encoder(tmp_path / "model")
    with pytest.raises(ModelError, match="no cross-encoder"):
        described(model)


def test_half_precision_is_near(tmp_path: Path) -> None:
    spec = described(tiny_models.scorer(tmp_path / "model"))
    queries, passages = tokenised(spec)
    scorer = Scorer(spec, dtype="bfloat16", device="cpu")
    assert scorer.dtype == "bfloat16"
    logits, _, _ = scorer.score(queries, passages, BOTH)
    np.testing.assert_allclose(logits, own_logits(spec), atol=0.05)
