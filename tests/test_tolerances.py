"""Batches and shuffles move logits a little: only documents that were close change places."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines import bundled
from pipelines.models.load import describe_scorer, locate
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize

QUERIES, DOCUMENTS = 5, 16
LIMIT = {"float32": 1e-4, "bfloat16": 0.05}


def texts():
    """Questions of the demo, and the doc strings of Python's own string and list methods."""
    file = Path(str(bundled.__file__)).parent / "questions.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()[:QUERIES]
    kinds = (str, list, dict, set, bytes, int)
    found = [
        doc
        for kind in kinds
        for name in sorted(dir(kind))
        if not name.startswith("_") and (doc := getattr(kind, name).__doc__)
    ]
    return [json.loads(line)["query"] for line in lines], list(dict.fromkeys(found))[:DOCUMENTS]


@pytest.fixture(scope="module")
def spec():
    return describe_scorer(locate("bundled", None, "scorer"), max_length=128)


@pytest.fixture(scope="module")
def scored(spec):
    """The logits of all pairs, (queries, documents), by dtype, order and batch."""
    queries, documents = texts()
    tokenize = Tokenize(spec.tokenizer, 10_000, special=False)
    tokens = [tokenize(part)[0] for part in (queries, documents)]
    pairs = np.array([(q, d) for q in range(QUERIES) for d in range(DOCUMENTS)], np.int32)
    found = {}
    for dtype in LIMIT:
        for batch_tokens in (512, 4096):
            scorer = Scorer(spec, dtype=dtype, device="cpu", batch_tokens=batch_tokens, threads=2)
            order = np.random.default_rng(batch_tokens).permutation(len(pairs))
            logits = np.empty(len(pairs))
            logits[order] = scorer.score(*tokens, pairs[order])[0]
            found[dtype, batch_tokens] = logits.reshape(QUERIES, DOCUMENTS)
    return found


def swapped(first, second):
    """How far apart the documents of each swapped pair are, in either scoring."""
    apart = [own[:, :, None] - own[:, None, :] for own in (first, second)]
    changed = np.sign(apart[0]) != np.sign(apart[1])  # equals are ordered by id, so they count, too
    return np.maximum(*(np.abs(own[changed]) for own in apart))


def top_changed(first, second):
    """The share of queries whose first ten documents are others, or in another order."""
    tops = [np.argsort(-own, axis=1, kind="stable")[:, :10] for own in (first, second)]
    return float((tops[0] != tops[1]).any(axis=1).mean())


@pytest.mark.parametrize("dtype", LIMIT)
def test_only_close_documents_change_places(scored, dtype):
    small, large = (scored[dtype, batch_tokens] for batch_tokens in (512, 4096))
    gaps = swapped(small, large)
    changed = top_changed(small, large)
    print(f"\n{dtype}: {len(gaps) // 2} swapped pairs, the widest {gaps.max(initial=0):.2g} apart;"
          f" top ten changed for {changed:.0%} of queries")  # fmt: skip
    assert (gaps < LIMIT[dtype]).all()


def test_half_precision_ranks_nearly_as_single(scored):
    exact, half = scored["float32", 4096], scored["bfloat16", 4096]
    gaps = swapped(exact, half)
    print(f"\nbfloat16 against float32: widest swap {gaps.max(initial=0):.2g}; top ten changed for"
          f" {top_changed(exact, half):.0%} of queries")  # fmt: skip
    assert np.abs(exact - half).max() < LIMIT["bfloat16"]
    assert (gaps < 2 * LIMIT["bfloat16"]).all()
