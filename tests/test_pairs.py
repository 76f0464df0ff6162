"""Assembled pairs are token by token those of the model's own tokeniser."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from pipelines.models.pairs import PairTemplate, assemble, find_template, fits
from pipelines.models.tokens import Tokenize, Tokens, offsets_of

BERT = PairTemplate(prefix=(101,), middle=(102,), suffix=(102,), middle_first_type=1)
IDS = st.lists(st.integers(200, 300), max_size=9)


def tokens_of(lists: list[list[int]]) -> Tokens:
    flat = np.array([token for ids in lists for token in ids], np.int32)
    return Tokens(flat, offsets_of(np.array([len(ids) for ids in lists], np.int64)))


@given(
    queries=st.lists(IDS, min_size=1, max_size=4),
    passages=st.lists(IDS, min_size=1, max_size=4),
    max_length=st.integers(13, 30),
    data=st.data(),
)
def test_assembling(
    queries: list[list[int]], passages: list[list[int]], max_length: int, data: st.DataObject
) -> None:
    one = st.tuples(st.integers(0, len(queries) - 1), st.integers(0, len(passages) - 1))
    pairs = data.draw(st.lists(one, max_size=10))
    array = np.array(pairs, np.int32).reshape(-1, 2)
    made, first_type, cut = assemble(
        BERT, tokens_of(queries), tokens_of(passages), array, max_length
    )
    for place, (q, p) in enumerate(pairs):
        kept = passages[p][: max_length - 3 - len(queries[q])]
        ids = made.ids[made.offsets[place] : made.offsets[place + 1]].tolist()
        assert ids == [101, *queries[q], 102, *kept, 102]
        assert first_type[place] == len(queries[q]) + 2
        assert cut[place] == len(passages[p]) - len(kept)
    assert len(made) == len(pairs)
    assert cut.dtype == np.int32


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("strategy", ["only_second", "longest_first"])
def test_pairs_are_those_of_the_models_own_tokeniser(
    family: str, strategy: str, tmp_path: Path
) -> None:
    own = AutoTokenizer.from_pretrained(tiny_models.scorer(tmp_path / "model", family=family))
    template = find_template(own.backend_tokenizer.to_str())
    assert template is not None
    tokenize = Tokenize(own.backend_tokenizer.to_str(), 10_000, special=False)
    texts = [text for text in tiny_models.TEXTS if text]
    both = [(q, p) for q in range(len(tiny_models.QUERIES)) for p in range(len(texts))]
    made, first_type, cut = assemble(
        template,
        tokenize(tiny_models.QUERIES)[0],
        tokenize(texts)[0],
        np.array(both, np.int32),
        max_length=64,
    )
    theirs = own(
        [tiny_models.QUERIES[q] for q, _ in both],
        [texts[p] for _, p in both],
        truncation=strategy,
        max_length=64,
        return_token_type_ids=True,
    )
    rows = zip(made.offsets, made.offsets[1:], strict=False)
    assert [made.ids[a:b].tolist() for a, b in rows] == theirs["input_ids"]
    types = theirs["token_type_ids"]
    assert [row.count(0) for row in types] == first_type.tolist()
    assert cut.max() > 0


def test_a_query_that_leaves_no_room() -> None:
    queries = tokens_of([[1] * 6, [1] * 7])
    assert fits(BERT, queries, 10).tolist() == [True, False]
    with pytest.raises(ValueError, match="1 pairs have a query"):
        assemble(BERT, queries, tokens_of([[5]]), np.array([[1, 0]], np.int32), 10)


def test_pairs_of_another_form_have_no_template() -> None:
    tokenizer = Tokenizer.from_file(f"{tiny_models.bundled_encoder()}/tokenizer.json")
    cls, sep = ("[CLS]", 101), ("[SEP]", 102)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $B [SEP] $A [SEP]", special_tokens=[cls, sep]
    )
    assert find_template(tokenizer.to_str()) is None
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A:1 [SEP]:1 $B [SEP]", special_tokens=[cls, sep]
    )
    assert find_template(tokenizer.to_str()) is None
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] [CLS] $A [SEP]:1 $B:1", special_tokens=[cls, sep]
    )
    expected = PairTemplate(prefix=(101, 101), middle=(102,), suffix=(), middle_first_type=0)
    assert find_template(tokenizer.to_str()) == expected
