"""The types of metadata columns: those that Parquet declares, or one pass over the values.

A value's kind is a short code; a row's kinds, in the order of the columns, are its signature. The
driver counts signatures, fixes a type a column, and rejects the rows that do not fit. A column of
the table is as wide as its kind: whatever has the kind can be written into it.
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
    "long": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us"),
    "date": pa.date32(),
}
_INT64 = range(-(2**63), 2**63)
# What a float64 holds exactly; beyond these an integer is a `long`.
_FLOAT_EXACT = range(-(2**53), 2**53 + 1)


def kind_of(value: Any) -> str:  # noqa: ANN401 - whatever a row holds
    """The code of a value: null, bool, int, long, float, string, timestamp, date, [kind], other."""
    if value is None:
        return "null"
    if isinstance(value, int) and value not in _FLOAT_EXACT:
        return "long" if value in _INT64 else "other"
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    if isinstance(value, datetime.datetime):
        return "timestamp"
    if isinstance(value, datetime.date):
        return "date"
    if isinstance(value, list):
        return _kind_of_list({kind_of(item) for item in value} - {"null"})
    return "other"


def _kind_of_list(kinds: set[str]) -> str:
    if not kinds:
        return "[]"
    for wide in ("float", "long"):
        if kinds == {"int", wide}:
            return f"[{wide}]"
    kind = kinds.pop()
    return f"[{kind}]" if not kinds and kind in _ARROW else "other"


def kind_of_type(declared: pa.DataType) -> str:
    """The code of the values that an Arrow type holds."""
    if _is_list(declared):
        inner = kind_of_type(declared.value_type)
        return f"[{inner}]" if inner in _ARROW else "other"
    tests = {
        "bool": pa.types.is_boolean,
        "int": pa.types.is_integer,
        "float": pa.types.is_floating,
        "string": _is_string,
        "timestamp": pa.types.is_timestamp,
        "date": pa.types.is_date,
    }
    return next((code for code, test in tests.items() if test(declared)), "other")


def column_type(declared: pa.DataType) -> pa.DataType | None:
    """The type of a table's column for values that a file declares; None for a type of nulls only.

    The widest of its kind, since another file may declare less: int64, float64, string, list,
    date32, and timestamps of microseconds in their time zone. Codes of a dictionary become values.
    """
    if pa.types.is_dictionary(declared):
        return column_type(declared.value_type)
    if isinstance(declared, pa.BaseExtensionType) and _is_string(declared.storage_type):
        return pa.string()
    if pa.types.is_timestamp(declared):
        return pa.timestamp("us", declared.tz)
    if _is_list(declared):
        inner = column_type(declared.value_type)
        plain = inner is None or kind_of_type(inner) in _ARROW
        return pa.list_(inner or pa.string()) if plain else declared
    return None if pa.types.is_null(declared) else _ARROW.get(kind_of_type(declared), declared)


def _is_string(declared: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(declared) for test in tests)


def _is_list(declared: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(declared) for test in tests)


def fits(kind: str, declared: pa.DataType) -> bool:
    """Whether values of a kind can stand in a column of a type."""
    wanted = kind_of_type(declared)
    if kind in ("null", wanted):
        return True
    if kind == "[]":
        return _is_list(declared) or pa.types.is_map(declared)
    bare, wide = kind.strip("[]"), wanted.strip("[]")
    same_depth = kind.startswith("[") == wanted.startswith("[")
    return same_depth and (bare, wide) in {("int", "float"), ("long", "int")}


def decide(kinds: Counter[str]) -> pa.DataType:
    """The type of a column from how often each kind of value occurs: the most frequent wins."""
    counted = Counter({kind: count for kind, count in kinds.items() if kind not in ("null", "[]")})
    if not counted:
        return pa.list_(pa.string()) if "[]" in kinds else pa.string()
    for narrow, wide in (
        ("int", "float"),
        ("[int]", "[float]"),
        ("int", "long"),
        ("[int]", "[long]"),
    ):
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
