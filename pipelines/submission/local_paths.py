"""The paths of a configuration that name folders of a machine, which the nodes may not share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.config import Config


def local_keys(config: Config, keys: Sequence[str]) -> list[str]:
    """Those of the keys (`section.key`) whose value is a path and no address.

    The names of Python packages are no paths, nor are those of models but for a local folder's.
    """
    return [key for key in keys if any(_local(key, value) for value in _values(config, key))]


def warning(keys: Sequence[str]) -> str:
    """One sentence on what has to hold for such paths."""
    *others, last = keys
    named = f"{', '.join(others)} and {last} are paths" if others else f"{last} is a path"
    return (
        f"{named} of a file system: every node of the cluster must see the same there, as on a "
        "shared disk; else use object storage, such as s3://bucket/folder."
    )


def _values(config: Config, key: str) -> list[str]:
    section, _, name = key.partition(".")
    settings: Any = getattr(config, section)
    if settings is None or (section == "corpus" and settings.format == "pydocs"):
        return []
    value = getattr(settings, name)
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _local(key: str, value: str) -> bool:
    # A model's local folder was made absolute when the configuration was read.
    model = key.endswith(".model") or key == "train.start"
    return Path(value).is_absolute() if model else "://" not in value
