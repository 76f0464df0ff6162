"""Token ids: flat arrays, Arrow columns, and the same ids as a model's own tokeniser."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipelines.models.tokens import Tokenize, Tokens

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
