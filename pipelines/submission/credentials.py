"""Secrets that stand in a configuration: found before it leaves this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.errors import UsageError
from pipelines.secret_options import WITH_PASSWORD, is_secret


def require_no_secret(raw: Mapping[str, Any]) -> None:
    """Check that a configuration can be handed to a cluster, whose users all read it.

    Raises:
        UsageError: an option of the storage is named like a secret, or an address holds a user or
            a password; the message names the key and not the value.
    """
    for key, value in _options(raw):
        if value not in ("", None) and is_secret(key.rpartition(".")[2]):
            raise UsageError(
                f"{key} looks like a secret, and a configuration that is submitted is kept where "
                "others read it; put it into the environment of the cluster's nodes instead."
            )
    for key, value in _strings(raw):
        if WITH_PASSWORD.search(value):
            raise UsageError(
                f"{key} holds a user or a password in its address; put these into the environment "
                "of the cluster's nodes instead."
            )


def _options(raw: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """The options of every `storage_options`, by dotted key; other sections take the table's."""
    for key, value in sorted(raw.items(), key=lambda item: item[0] != "table"):
        dotted = f"{place}{key}"
        if key == "storage_options" and isinstance(value, Mapping):
            yield from ((f"{dotted}.{name}", option) for name, option in value.items())
        elif isinstance(value, Mapping):
            yield from _options(value, f"{dotted}.")


def _strings(raw: Any, place: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - YAML
    """Every string of a configuration with its dotted key; those of a list share the list's."""
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from _strings(value, f"{place}.{key}" if place else str(key))
    elif isinstance(raw, list | tuple):
        for value in raw:
            yield from _strings(value, place)
    elif isinstance(raw, str):
        yield place, raw
