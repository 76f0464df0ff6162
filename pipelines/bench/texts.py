"""The texts and pairs that a benchmark works on: from the embedded corpus, the same each time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.corpus.identity import passage
from pipelines.corpus.read.pydocs import modules, read_module
from pipelines.corpus.read.rows import Document
from pipelines.models.load import EncoderSpec
from pipelines.models.pairs import Pairs
from pipelines.models.tokens import Tokenize

QUESTIONS = Path(__file__).resolve().parents[1] / "bundled" / "questions.jsonl"
_UNLIMITED_TOKENS = 1 << 30
# Upper ends of the bands of token counts that texts are drawn from in equal parts.
BANDS_TOKENS = (32, 64, 128, 256)
# Distributions of lengths, each by the numbers of its bands.
LENGTHS = {"short": (0,), "mixed": (0, 1, 2, 3), "long": (3,)}
_SEED = 7
_LEAST_PASSAGES = 200
_PAIRS_A_PASSAGE = 10


def read_texts(corpus: Sequence[str], spec: EncoderSpec) -> tuple[list[str], npt.NDArray[np.int64]]:
    """All passages of the embedded corpus, and the tokens of each, special ones among them."""
    found = [
        passage(row.title, row.text)
        for module in modules(corpus)
        for row in read_module(module)
        if isinstance(row, Document)
    ]
    assert spec.tokenizer is not None  # noqa: S101 - the bundled model has one
    tokens, _ = Tokenize(spec.tokenizer, _UNLIMITED_TOKENS)(found)
    return found, tokens.lengths


def draw(
    lengths: npt.NDArray[np.int64], count: int, bands: Sequence[int] = LENGTHS["mixed"]
) -> list[int]:
    """Places of `count` texts, drawn the same way each time from the bands in turn.

    A text comes twice only if its band holds too few; one that is in no band does not come. No
    text is longer than a chunk, so nothing that reads them cuts them.
    """
    rng = np.random.default_rng(_SEED)
    band = np.searchsorted(BANDS_TOKENS, lengths)
    pools = [pool for number in bands if len(pool := np.flatnonzero(band == number))]
    if not pools:
        return []
    shares = [len(part) for part in np.array_split(np.arange(count), len(pools))]
    drawn = [
        rng.choice(pool, share, replace=share > len(pool))
        for pool, share in zip(pools, shares, strict=True)
    ]
    places: list[int] = rng.permutation(np.concatenate(drawn)).tolist()
    return places


def draw_pairs(
    queries: int, passages_a_query: int, texts: Sequence[str]
) -> tuple[list[str], list[str], Pairs]:
    """Questions, passages, and pairs of their numbers: each question with some passages.

    Passages come with ten questions each, as in a rerank run, where there are so many pairs.
    """
    rng = np.random.default_rng(_SEED)
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    chosen = rng.choice(len(lines), min(queries, len(lines)), replace=False)
    asked = [str(json.loads(lines[place])["query"]) for place in chosen]
    repeated = len(asked) * passages_a_query // _PAIRS_A_PASSAGE
    least = max(_LEAST_PASSAGES, 2 * passages_a_query)
    passages = list(dict.fromkeys(texts))[: max(least, repeated)]
    each = min(passages_a_query, len(passages))
    drawn = [rng.choice(len(passages), each, replace=False) for _ in asked]
    pairs = [(query, text) for query, places in enumerate(drawn) for text in places.tolist()]
    return asked, passages, np.asarray(pairs, np.int32)
