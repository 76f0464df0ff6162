"""What only a GPU shows: kernels for any lengths, and streams that must not overtake each other.

Needs neither Ray nor Lance.
"""

import numpy as np
import pytest
import tiny_models
import torch

from pipelines.models.encoder import Encoder
from pipelines.models.load import describe_encoder, describe_scorer, locate
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokens, offsets_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    encoder = tiny_models.encoder(folder / "encoder")
    scorer = tiny_models.scorer(folder / "scorer")
    return (
        describe_encoder(locate(str(encoder), None, "encoder")),
        describe_scorer(locate(str(scorer), None, "scorer")),
    )


def drawn(texts, longest, seed=0):
    rng = np.random.default_rng(seed)
    offsets = offsets_of(rng.integers(1, longest, texts))
    return Tokens(rng.integers(5, 60, offsets[-1]).astype(np.int32), offsets)


@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_thousands_of_small_micro_batches_come_back_to_their_rows(specs, dtype, apart):
    tokens = drawn(5000, 64)
    exact = Encoder(specs[0], dtype="float32", device="cpu").encode(tokens)
    for budget in (128, 4096, "auto"):
        encoder = Encoder(specs[0], dtype=dtype, device="cuda", batch_tokens=budget)
        for _ in range(3):
            np.testing.assert_allclose(encoder.encode(tokens), exact, atol=apart)


@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_pairs_come_back_to_their_rows(specs, dtype, apart):
    queries, passages = drawn(50, 12), drawn(300, 60, seed=1)
    pairs = np.random.default_rng(2).integers(0, (50, 300), (6000, 2)).astype(np.int32)
    exact, _, _ = Scorer(specs[1], dtype="float32", device="cpu").score(queries, passages, pairs)
    for budget in (256, "auto"):
        scorer = Scorer(specs[1], dtype=dtype, device="cuda", batch_tokens=budget)
        logits, _, _ = scorer.score(queries, passages, pairs)
        np.testing.assert_allclose(logits, exact, atol=apart)


def test_a_micro_batch_that_is_too_large_is_halved(specs):
    tokens = drawn(20_000, 64)
    whole = Encoder(specs[0], dtype="bfloat16", device="cuda").encode(tokens)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(200e6 / total)
    try:
        encoder = Encoder(specs[0], dtype="bfloat16", device="cuda", batch_tokens=10_000_000)
        np.testing.assert_allclose(encoder.encode(tokens), whole, atol=0.05)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
