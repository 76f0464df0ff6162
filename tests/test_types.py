"""The types of metadata columns."""

import datetime
from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.types import (
    column_type,
    decide,
    decide_columns,
    fits,
    kind_of,
    kind_of_type,
)

NOW = datetime.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, "null"),
        (True, "bool"),
        (0, "int"),
        (2**53, "int"),
        (2**53 + 1, "long"),
        (-(2**63), "long"),
        (2**63, "other"),
        (2**70, "other"),
        (0.5, "float"),
        (float("nan"), "float"),
        ("", "string"),
        (NOW, "timestamp"),
        (NOW.date(), "date"),
        ([], "[]"),
        ([None], "[]"),
        ([1, None, 2], "[int]"),
        ([1, 2.5], "[float]"),
        ([1, 2**60], "[long]"),
        ([2.5, 2**60], "other"),
        ([1, 2.5, 2**60], "other"),
        ([1, "a"], "other"),
        ([True, 1], "other"),
        (["a"], "[string]"),
        ([NOW], "[timestamp]"),
        ([[1]], "other"),
        ([2**70], "other"),
        ({"a": 1}, "other"),
        (b"x", "other"),
        (Decimal(1), "other"),
    ],
)
def test_kinds(value: Any, wanted: str) -> None:
    assert kind_of(value) == wanted


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ({"int": 3}, pa.int64()),
        ({"int": 3, "float": 1}, pa.float64()),
        ({"int": 3, "long": 1}, pa.int64()),
        ({"long": 2, "float": 1}, pa.int64()),
        ({"long": 1, "float": 2}, pa.float64()),
        ({"int": 3, "string": 4}, pa.string()),
        ({"int": 3, "string": 2}, pa.int64()),
        ({"int": 2, "float": 2, "string": 3}, pa.float64()),
        ({"null": 9, "bool": 1}, pa.bool_()),
        ({"null": 9}, pa.string()),
        ({}, pa.string()),
        ({"null": 5, "[]": 1}, pa.list_(pa.string())),
        ({"[]": 5, "[int]": 1}, pa.list_(pa.int64())),
        ({"[int]": 2, "[float]": 1}, pa.list_(pa.float64())),
        ({"[int]": 2, "[long]": 1}, pa.list_(pa.int64())),
        ({"other": 5}, pa.string()),
        ({"timestamp": 1}, pa.timestamp("us")),
        ({"date": 1}, pa.date32()),
        ({"bool": 2, "string": 2}, pa.bool_()),  # as many of both: by name
    ],
)
def test_the_most_frequent_kind_decides(kinds: dict[str, int], wanted: pa.DataType) -> None:
    assert decide(Counter(kinds)) == wanted


def test_columns_are_decided_in_the_order_of_the_signature() -> None:
    signatures = {"int,string,null": 5, "float,null,null": 1, "string,string,[int]": 2}
    declared = {"b": pa.date32(), "unused": pa.int64()}
    assert decide_columns(["a", "b", "c"], signatures, declared) == {
        "a": pa.float64(),
        "b": pa.date32(),
        "c": pa.list_(pa.int64()),
    }
    assert decide_columns([], {"": 3}, {}) == {}
    assert decide_columns(["a"], {}, {}) == {"a": pa.string()}


@pytest.mark.parametrize(
    ("kind", "declared", "wanted"),
    [
        ("null", pa.int64(), True),
        ("int", pa.int64(), True),
        ("int", pa.float64(), True),
        ("long", pa.int64(), True),
        ("long", pa.float64(), False),
        ("float", pa.int64(), False),
        ("bool", pa.int64(), False),
        ("int", pa.string(), False),
        ("other", pa.string(), False),
        ("date", pa.timestamp("us"), False),
        ("[]", pa.list_(pa.string()), True),
        ("[]", pa.list_(pa.struct([("a", pa.int64())])), True),
        ("[]", pa.string(), False),
        ("[int]", pa.list_(pa.float64()), True),
        ("[long]", pa.list_(pa.int64()), True),
        ("[long]", pa.list_(pa.float64()), False),
        ("[int]", pa.float64(), False),
        ("int", pa.list_(pa.float64()), False),
        ("int", pa.list_(pa.int64()), False),
        ("other", pa.struct([("a", pa.int64())]), True),
        ("other", pa.decimal128(5, 2), True),
        ("string", pa.decimal128(5, 2), False),
    ],
)
def test_what_fits(kind: str, declared: pa.DataType, wanted: bool) -> None:
    assert fits(kind, declared) is wanted


@pytest.mark.parametrize(
    ("declared", "wanted"),
    [
        (pa.int8(), pa.int64()),
        (pa.uint64(), pa.int64()),
        (pa.float32(), pa.float64()),
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.dictionary(pa.int8(), pa.int32()), pa.int64()),
        (pa.date64(), pa.date32()),
        (pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC")),
        (pa.timestamp("s"), pa.timestamp("us")),
        (pa.list_(pa.float32(), 3), pa.list_(pa.float64())),
        (pa.large_list(pa.dictionary(pa.int8(), pa.string())), pa.list_(pa.string())),
        (pa.list_(pa.null()), pa.list_(pa.string())),
        (pa.list_(pa.struct([("a", pa.int8())])), pa.list_(pa.struct([("a", pa.int8())]))),
        (pa.null(), None),
        (pa.decimal128(5, 2), pa.decimal128(5, 2)),
        (pa.json_(), pa.string()),
    ],
)
def test_a_column_is_as_wide_as_its_kind(declared: pa.DataType, wanted: pa.DataType) -> None:
    assert column_type(declared) == wanted


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(max_size=3)
    | st.dates()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.lists(VALUES, max_size=12))
def test_whatever_fits_the_decided_type_can_be_written(values: list[Any]) -> None:
    kind = decide(Counter(kind_of(value) for value in values))
    fitting = [value for value in values if fits(kind_of(value), kind)]
    assert len(pa.array(fitting, kind)) == len(fitting)
    if any(value is not None for value in values) and kind != pa.string():
        assert any(value is not None for value in fitting)


ARRAYS = [
    pa.array([1, 255], pa.uint8()),
    pa.array([1.5], pa.float32()),
    pa.array([np.float16(1.5)], pa.float16()),
    pa.array(["a", "b"]).dictionary_encode(),
    pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
    pa.array([[], [1]], pa.list_(pa.int8())),
    pa.array([[{"a": 1}], []], pa.list_(pa.struct([("a", pa.int8())]))),
    pa.array([[[1]]], pa.list_(pa.list_(pa.int8()))),
    pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
    pa.array([{"a": None}], pa.struct([("a", pa.string())])),
    pa.array([Decimal("1.50")], pa.decimal128(5, 2)),
    pa.array([1_234_567_891], pa.timestamp("ns")),
    pa.array([NOW], pa.timestamp("ms", "Europe/Berlin")),
    pa.array([NOW.time()], pa.time64("us")),
    pa.array([86_400_000], pa.date64()),
    pa.array([b"x"], pa.binary()),
    pa.array(["x"], pa.large_string()),
    pa.array(["x"], pa.string_view()),
    pa.array(['{"a": 1}'], pa.json_()),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
def test_values_of_a_declared_type_fit_its_column(array: pa.Array) -> None:
    kind = column_type(array.type)
    values = array.to_pylist()
    assert all(fits(kind_of(value), kind) for value in values)
    assert len(pa.array(values, kind)) == len(values)


def test_the_kind_of_a_type() -> None:
    assert kind_of_type(pa.list_(pa.int8())) == "[int]"
    assert kind_of_type(pa.list_(pa.list_(pa.int8()))) == "other"
    assert kind_of_type(pa.float16()) == "float"
