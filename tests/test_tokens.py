"""Token ids: flat arrays, Arrow columns, and the same ids as a model's own tokeniser."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from pipelines.models.tokens import Tokenize, Tokens, bare_tokenizer

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=12)


def tokens_of(lists: list[list[int]]) -> Tokens:
    return Tokens.from_arrow(pa.array(lists, pa.list_(pa.int32())))


def lists_of(tokens: Tokens) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])][: len(tokens)]


@given(LISTS)
def test_arrow_there_and_back(lists: list[list[int]]) -> None:
    tokens = tokens_of(lists)
    assert len(tokens) == len(lists)
    assert tokens.lengths.tolist() == [len(ids) for ids in lists]
    assert tokens.to_arrow().to_pylist() == lists
    assert lists_of(tokens) == lists


@given(LISTS.filter(bool), st.data())
def test_take_is_indexing(lists: list[list[int]], data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=20))
    taken = tokens_of(lists).take(np.array(indices, np.int64))
    assert taken.to_arrow().to_pylist() == [lists[index] for index in indices]


@given(LISTS, st.integers(0, 7), st.integers(0, 3))
def test_a_shortened_text_keeps_its_head_and_its_end(
    lists: list[list[int]], most: int, after: int
) -> None:
    after = min(after, most)
    expected = [
        ids if len(ids) <= most else ids[: most - after] + ids[len(ids) - after :] for ids in lists
    ]
    assert lists_of(tokens_of(lists).shortened(most, after)) == expected


@given(LISTS, st.integers(0, 2), st.integers(0, 2))
def test_what_stands_around_a_text_is_left_out(
    lists: list[list[int]], before: int, after: int
) -> None:
    around = [[1] * before + ids + [2] * after for ids in lists]
    assert lists_of(tokens_of(around).inner(before, after)) == lists


@given(LISTS, st.data())
def test_slices_and_chunks_of_arrow(lists: list[list[int]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(lists)))
    column = pa.array(lists, pa.list_(pa.int32()))
    assert lists_of(Tokens.from_arrow(column[start:])) == lists[start:]
    chunks = pa.chunked_array([column[:start], column[start:]])
    assert lists_of(Tokens.from_arrow(chunks)) == lists


def test_arrow_buffers_are_shared() -> None:
    column = pa.array([[1, 2], [3, 4, 5], [6]], pa.list_(pa.int32()))[1:]
    tokens = Tokens.from_arrow(column)
    address = column.values.buffers()[1].address
    assert tokens.ids.__array_interface__["data"][0] == address + 2 * 4
    assert tokens.to_arrow().values.buffers()[1].address == address + 2 * 4


def test_a_null_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 texts"):
        Tokens.from_arrow(pa.array([[1], None], pa.list_(pa.int32())))


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("limit", [5, 20, 64])
def test_ids_are_those_of_the_models_own_tokeniser(family: str, limit: int, tmp_path: Path) -> None:
    own = AutoTokenizer.from_pretrained(tiny_models.scorer(tmp_path / "model", family=family))
    tokens, cut = Tokenize(own.backend_tokenizer.to_str(), limit)(tiny_models.TEXTS)
    assert (
        lists_of(tokens) == own(tiny_models.TEXTS, truncation=True, max_length=limit)["input_ids"]
    )
    whole = [len(ids) for ids in own(tiny_models.TEXTS)["input_ids"]]
    assert cut.dtype == np.int32
    assert cut.tolist() == [max(length - limit, 0) for length in whole]


def test_bare_ids() -> None:
    tokenizer_json = (Path(tiny_models.bundled_encoder()) / "tokenizer.json").read_text()
    whole, _ = Tokenize(tokenizer_json, 256)(["a small test"])
    bare, cut = Tokenize(tokenizer_json, 2, special=False)(["a small test", ""])
    assert lists_of(bare) == [whole.ids[1:3].tolist(), []]
    assert cut.tolist() == [1, 0]


def around(tokenizer: Tokenizer, template: str) -> str:
    """The tokeniser with other special tokens around a text."""
    names = [word for word in template.split() if word != "$A"]
    special = [(name, tokenizer.token_to_id(name)) for name in dict.fromkeys(names)]
    tokenizer.post_processor = processors.TemplateProcessing(template, "$A $B", special)
    return tokenizer.to_str()


BYTES = st.lists(
    st.sampled_from(["", " ", "a", "locks", "[SEP]", "</s>", "[CLS] x", "漢", "🙂", "\x00"]),
    max_size=6,
).map("".join)


@pytest.mark.parametrize(
    ("family", "template"),
    [
        ("bert", None),
        ("roberta", None),
        ("bert", "$A"),
        ("bert", "[CLS] $A"),
        ("roberta", "$A </s>"),
        ("bert", "[CLS] [CLS] $A [SEP]"),
    ],
)
def test_whole_texts_without_what_is_around_them_are_bare(
    family: str, template: str | None, tmp_path: Path
) -> None:
    own = AutoTokenizer.from_pretrained(tiny_models.scorer(tmp_path / "model", family=family))
    plain: Tokenizer = own.backend_tokenizer
    plain.no_padding()
    plain.no_truncation()
    json = around(plain, template) if template else plain.to_str()
    tokenize = Tokenize(json, 10**6)

    @given(st.lists(BYTES, max_size=6))
    @settings(max_examples=40, deadline=None)
    def holds(texts: list[str]) -> None:
        texts = [*texts, *tiny_models.TEXTS]
        expected = [plain.encode(text, add_special_tokens=False).ids for text in texts]
        assert lists_of(tokenize.bare(tokenize(texts)[0])) == expected
        assert lists_of(bare_tokenizer(json)(texts)[0]) == expected

    holds()
    words = template.split() if template else ["[CLS]", "$A", "[SEP]"]
    assert tokenize.special_tokens == len(words) - 1
    assert tokenize.after == len(words) - 1 - words.index("$A")


def test_no_texts_and_no_room() -> None:
    tokenizer_json = (Path(tiny_models.bundled_encoder()) / "tokenizer.json").read_text()
    tokens, cut = Tokenize(tokenizer_json, 3)([])
    assert (len(tokens), len(tokens.ids), len(cut)) == (0, 0, 0)
    with pytest.raises(ValueError, match="no room beside 2 special tokens"):
        Tokenize(tokenizer_json, 2)


def test_what_needs_no_model_imports_no_torch() -> None:
    modules = ", ".join(f"pipelines.models.{m}" for m in ("tokens", "batching", "pairs", "load"))
    heavy = "{'torch', 'transformers', 'sentence_transformers', 'ray', 'lance', 'lancedb'}"
    code = f"import sys, {modules}; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
