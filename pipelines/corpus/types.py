"""The types of metadata columns: those that Parquet declares, or one pass over the values.

A value's kind is a short code; a row's kinds, in the order of the columns, are its signature. The
driver counts signatures, fixes a type a column, and rejects the rows that do not fit.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

_KINDS = {bool: "bool", int: "int", float: "float", str: "string"}
_ARROW = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us"),
    "date": pa.date32(),
}
_INT64 = range(-(2**63), 2**63)


def kind_of(value: Any) -> str:  # noqa: ANN401 - whatever a row holds
    """The code of a value: null, bool, int, float, string, timestamp, date, [kind] or other."""
    if value is None:
        return "null"
    if isinstance(value, int) and value not in _INT64:
        return "other"
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    if isinstance(value, datetime.datetime):
        return "timestamp"
    if isinstance(value, datetime.date):
        return "date"
    if isinstance(value, list):
        kinds = {kind_of(item) for item in value} - {"null"}
        if not kinds:
            return "[]"
        if kinds == {"int", "float"}:
            return "[float]"
        kind = kinds.pop()
        return f"[{kind}]" if not kinds and kind in _ARROW else "other"
    return "other"


def kind_of_type(declared: pa.DataType) -> str:
    """The code of the values that an Arrow type holds."""
    if pa.types.is_list(declared) or pa.types.is_large_list(declared):
        return f"[{kind_of_type(declared.value_type)}]"
    tests = {
        "bool": pa.types.is_boolean,
        "int": pa.types.is_integer,
        "float": pa.types.is_floating,
        "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
        "timestamp": pa.types.is_timestamp,
        "date": pa.types.is_date,
    }
    return next((code for code, test in tests.items() if test(declared)), "other")


def fits(kind: str, declared: pa.DataType) -> bool:
    """Whether values of a kind can stand in a column of a type."""
    wanted = kind_of_type(declared)
    if kind in ("null", wanted) or (kind == "[]" and wanted.startswith("[")):
        return True
    return (kind, wanted) in {("int", "float"), ("[int]", "[float]")}


def decide(kinds: Counter[str]) -> pa.DataType:
    """The type of a column from how often each kind of value occurs: the most frequent wins."""
    counted = Counter({kind: count for kind, count in kinds.items() if kind not in ("null", "[]")})
    if not counted:
        return pa.list_(pa.string()) if "[]" in kinds else pa.string()
    for narrow, wide in (("int", "float"), ("[int]", "[float]")):
        if wide in counted:
            counted[wide] += counted.pop(narrow, 0)
    kind = min(counted, key=lambda code: (-counted[code], code))
    if kind.startswith("["):
        return pa.list_(_ARROW[kind.strip("[]")])
    return _ARROW.get(kind, pa.string())


def decide_columns(
    names: Sequence[str],
    signatures: Mapping[str, int],
    declared: Mapping[str, pa.DataType],
) -> dict[str, pa.DataType]:
    """The type of each metadata column; `signatures` counts the rows of each signature."""
    types = {}
    for place, name in enumerate(names):
        kinds: Counter[str] = Counter()
        for signature, count in signatures.items():
            kinds[signature.split(",")[place]] += count
        types[name] = declared[name] if name in declared else decide(kinds)
    return types
