"""What must not grow unnoticed: padding, forward passes, tokeniser calls and copies, all counted.

No clock is read here, so these hold on any machine.
"""

import math
from dataclasses import replace

import lance
import numpy as np
import pyarrow as pa
import pytest
import tiny_models
from test_chunk import SETTINGS, block, chunked, never

from pipelines.corpus import chunk
from pipelines.corpus.chunk import Chunk
from pipelines.models.batching import pack, padding_share
from pipelines.models.devices import Cpu
from pipelines.models.encoder import Encoder
from pipelines.models.load import describe_encoder, describe_scorer, locate
from pipelines.models.network_models import NetworkEncoder, NetworkScorer
from pipelines.models.products import Product
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize, Tokens, offsets_of
from pipelines.queries.passages import FetchPassages

BUDGET = 1024


class Counts:
    """Calls by name, and the texts or values that they took."""

    def __init__(self, monkeypatch):
        self.calls, self.sizes, self._patch = {}, {}, monkeypatch

    def clear(self):
        """From now on: a model that is described is tried out, too."""
        self.calls, self.sizes = dict.fromkeys(self.calls, 0), dict.fromkeys(self.sizes, 0)

    def watch(self, kind, method, size=lambda *_: 0):
        own, name = getattr(kind, method), f"{kind.__name__}.{method}"
        self.calls[name], self.sizes[name] = 0, 0

        def counted(this, *given, **named):
            self.calls[name] += 1
            self.sizes[name] += size(*given)
            return own(this, *given, **named)

        self._patch.setattr(kind, method, counted)


@pytest.fixture
def counts(monkeypatch):
    found = Counts(monkeypatch)
    found.watch(Tokenize, "__call__", len)
    found.watch(Cpu, "place", lambda array: array.nbytes)
    found.watch(Cpu, "fetch")
    found.watch(NetworkEncoder, "forward")
    found.watch(NetworkScorer, "forward")
    return found


def drawn(texts, longest):
    """Token ids of texts of mixed lengths."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, longest, texts)
    offsets = offsets_of(lengths)
    return Tokens(rng.integers(5, 50, offsets[-1]).astype(np.int32), offsets)


def test_a_block_is_tokenised_in_few_calls_and_each_text_twice_at_most(counts):
    short = [(f"s{n}", None, f"Text {n}.") for n in range(300)]
    long = [(f"l{n}", None, " ".join(f"word{n} and more." for _ in range(40))) for n in range(20)]
    chunks = chunked(block(*short, *long))
    assert len(chunks) > 400
    # All documents; the chunks of the long ones; and again where a cut fell within a word.
    assert counts.calls["Tokenize.__call__"] <= 4
    of_long = len(chunks) - len(short)
    assert counts.sizes["Tokenize.__call__"] <= len(short) + len(long) + 2 * of_long


def test_stored_ids_cost_no_call_and_with_a_prompt_one_a_passage(counts):
    documents = [(f"d{n}", None, "Some words here. " * (n % 30)) for n in range(100)]
    for prompt in ("", "passage: "):
        found = []
        for stored in (False, True):
            counts.clear()
            chosen = replace(SETTINGS, prompt=prompt, store_tokens=stored)
            chunks = chunked(block(*documents), chosen)
            found.append((counts.calls["Tokenize.__call__"], counts.sizes["Tokenize.__call__"]))
        more = (1, len(chunks)) if prompt else (0, 0)
        assert found[1] == tuple(map(sum, zip(found[0], more, strict=True)))


def test_a_large_block_is_cut_in_parts_of_bounded_size(counts, monkeypatch):
    texts = [(f"d{n}", None, "Some words here. " * (n % 9)) for n in range(100)]
    whole = chunked(block(*texts))
    monkeypatch.setattr(chunk, "_TEXT_BYTES_AT_ONCE", 1000)
    longest = []
    counts.watch(Tokenize, "__call__", lambda given: longest.append(sum(map(len, given))) or 0)
    tables = list(Chunk(SETTINGS, {}, lambda **_: None, never)(block(*texts)))
    assert pa.concat_tables(tables).to_pylist() == whole
    assert len(longest) > 5
    assert max(longest) <= 1000 + max(len(text) for *_, text in texts)


def test_an_encoder_pads_nothing_and_copies_once_a_micro_batch(counts, small_encoder):
    spec = describe_encoder(locate(str(small_encoder), None, "encoder"))
    tokens = drawn(3000, 64)
    encoder = Encoder(spec, dtype="float32", device="cpu", batch_tokens=BUDGET)
    told = []
    counts.clear()
    encoder.encode(tokens, lambda *batch: told.append(batch))
    rows, real, padded = (sum(column) for column in zip(*told, strict=True))
    assert (rows, real, padded) == (3000, len(tokens.ids), len(tokens.ids))
    batches = counts.calls["NetworkEncoder.forward"]
    assert batches == len(told) <= math.ceil(1.1 * len(tokens.ids) / BUDGET)
    assert counts.calls["Cpu.fetch"] == batches
    assert counts.calls["Cpu.place"] == 3 * batches
    # Ids, positions and offsets, four bytes each.
    assert counts.sizes["Cpu.place"] == 4 * (2 * len(tokens.ids) + 3000 + batches)
    assert counts.calls["Tokenize.__call__"] == 0


@pytest.mark.parametrize(("rows", "most"), [(1000, 0.07), (20_000, 0.01)])
def test_where_rows_are_padded_little_is_wasted(rows, most):
    lengths = np.random.default_rng(0).integers(5, 256, rows)
    assert padding_share(lengths, pack(lengths, 2048)) < most


def test_where_only_first_tokens_count_the_last_layer_computes_no_other(
    monkeypatch, tmp_path, small_scorer
):
    folder = tiny_models.encoder(tmp_path / "cls", pooling="cls")
    encoder = Encoder(describe_encoder(locate(str(folder), None, "encoder")), dtype="float32")
    scorer = Scorer(describe_scorer(locate(str(small_scorer), None, "scorer")), dtype="float32")
    texts, rows = drawn(10, 50), []
    own = Product.__call__
    monkeypatch.setattr(
        Product, "__call__", lambda this, given: (rows.append(len(given)), own(this, given))[1]
    )
    encoder.encode(texts)
    tokens = len(texts.ids)
    # Two layers of four products each: of the last one, keys and values come of all tokens.
    assert rows == [tokens] * 4 + [tokens, 10, 10, 10, 10]
    rows.clear()
    pairs = np.arange(10, dtype=np.int32)[:, None].repeat(2, axis=1)
    lengths = scorer.score(texts, texts, pairs)[2]
    assert rows[:5] == [lengths.sum()] * 5
    assert set(rows[5:]) == {10}


def test_a_scorer_reads_each_passage_from_its_tokens(counts, small_scorer):
    spec = describe_scorer(locate(str(small_scorer), None, "scorer"))
    queries, passages = drawn(40, 8), drawn(300, 50)
    pairs = np.random.default_rng(1).integers(0, (40, 300), (2000, 2)).astype(np.int32)
    scorer = Scorer(spec, dtype="float32", device="cpu", batch_tokens=BUDGET)
    told = []
    counts.clear()
    _, _, lengths = scorer.score(queries, passages, pairs, lambda *batch: told.append(batch))
    total = int(lengths.sum())
    assert [sum(column) for column in zip(*told, strict=True)] == [2000, total, total]
    batches = counts.calls["NetworkScorer.forward"]
    assert batches == len(told) <= math.ceil(1.1 * total / BUDGET)
    assert counts.calls["Cpu.fetch"] == batches
    assert counts.calls["Cpu.place"] == 4 * batches  # token types, too
    assert counts.calls["Tokenize.__call__"] == 0


def test_a_passage_is_tokenised_once_however_often_it_is_a_candidate(counts, tmp_path):
    tokenizer = describe_scorer(locate("bundled", None, "scorer")).tokenizer
    rows = [
        {
            "chunk_id": f"c{n}",
            "doc_id": f"d{n // 2}",
            "ordinal": n % 2,
            "text_hash": bytes([n] * 16),
            "title": None,
            "text": f"Passage {n}.",
        }
        for n in range(60)
    ]
    dataset = lance.write_dataset(pa.Table.from_pylist(rows), str(tmp_path / "chunks.lance"))
    documents = pa.table({"doc_id": [f"d{n}" for n in range(30)]})
    counts.clear()
    fetched = FetchPassages(dataset, tokenizer)(documents)
    assert fetched.num_rows == 60
    assert counts.calls["Tokenize.__call__"] == 1
    assert counts.sizes["Tokenize.__call__"] == 60
    # Where the table has the ids, there need not even be a text.
    dataset = lance.write_dataset(fetched, str(tmp_path / "stored.lance"))
    assert not {"text", "title"} & set(dataset.schema.names)
    counts.clear()
    again = FetchPassages(dataset, tokenizer, stored=True)(documents)
    assert counts.calls["Tokenize.__call__"] == 0
    assert again.sort_by("chunk_id").to_pylist() == fetched.sort_by("chunk_id").to_pylist()
