"""Filters of a search: conditions on metadata columns, made from values and never from text."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import UsageError
from pipelines.table.schema import metadata_types

_COMPARISONS: dict[str, Callable[[Any, Any], pc.Expression]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_KEY = "queries.filter"


def conditions(wanted: Mapping[str, Any], schema: pa.Schema) -> pc.Expression | None:
    """All of the conditions together, None if there are none.

    A condition on a column is a value, a list of values of which one is wanted, or a mapping of
    comparisons (eq, ne, lt, le, gt, ge, in) that all must hold. A row without a value meets none.

    Raises:
        UsageError: a column is no metadata column, a comparison is none, or a value does not fit.
    """
    types = metadata_types(schema) | {"doc_id": pa.string()}
    found = []
    for column, condition in wanted.items():
        if column not in types:
            raise UsageError(
                f"{_KEY} names {column!r}, which is no metadata column of the table; there are "
                f"{', '.join(sorted(types))}."
            )
        if not isinstance(condition, Mapping):
            condition = {"in" if isinstance(condition, list | tuple) else "eq": condition}
        for name, value in condition.items():
            found.append(_condition(column, types[column], str(name), value))
    return reduce(operator.and_, found) if found else None


def _condition(column: str, kind: pa.DataType, name: str, value: object) -> pc.Expression:
    key = f"{_KEY}.{column}"
    if pa.types.is_nested(kind):
        raise UsageError(f"{key}: the column holds {kind}, and only single values are compared.")
    if name == "in":
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise UsageError(f"{key}.in is empty; at least one value is wanted.")
        return pc.field(column).isin(pa.array([_typed(key, kind, item) for item in values], kind))
    if name not in _COMPARISONS:
        allowed = ", ".join([*_COMPARISONS, "in"])
        raise UsageError(f"{key} has the comparison {name!r}; {allowed} are allowed.")
    return _COMPARISONS[name](pc.field(column), pa.scalar(_typed(key, kind, value), kind))


def _typed(key: str, kind: pa.DataType, value: object) -> Any:  # noqa: ANN401 - as its type says
    """A value of the column's type."""
    boolean = isinstance(value, bool)
    if value is not None and boolean == pa.types.is_boolean(kind):
        try:
            return pa.scalar(value, kind).as_py()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass  # said below
    raise UsageError(f"{key} is compared with {value!r}; the column holds {kind}.")
