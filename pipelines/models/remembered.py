"""What was found out about a model, kept in the user's cache folder as a JSON file.

`TANDEM_CACHE` names another folder; where it is empty nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from pipelines.models.cache_folder import cache_folder
from pipelines.models.fingerprint import digest
from pipelines.summary import read_json, write_json

_LIBRARIES = ("sentence-transformers", "tokenizers", "torch", "transformers")
_MOST_FILES = 64

Spec = TypeVar("Spec")


def remembered(
    folder: str,
    asked: tuple[object, ...],
    describe: Callable[[], Spec],
    read: Callable[[Mapping[str, Any]], Spec],
    *,
    lasts: bool,
) -> Spec:
    """What `describe` says of the model in a folder, or what it said when nothing was other.

    Args:
        folder: the model's files; size and time of each are part of the key.
        asked: what else the answer depends on.
        describe: finds it out.
        read: makes it of what `asdict` made of it.
        lasts: whether it may be kept at all.
    """
    place = cache_folder()
    if place is None or not lasts:
        return describe()
    path = place / f"{digest([_files(folder), list(asked), _code()])}.json"
    try:
        known = read_json(path)
    except (OSError, ValueError):  # it cannot be read: found out again
        known = None
    if known is not None:
        return read(known)
    spec = describe()
    try:
        write_json(path, asdict(spec))  # type: ignore[call-overload]
        _forget_oldest(place)
    except OSError:  # a folder that cannot be written is no reason to stop: nothing is kept
        return spec
    return spec


def _files(folder: str) -> list[tuple[str, int, int]]:
    """The files of a model: where each leads, its size and its time."""
    found = []
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            told = path.stat()
            found.append((str(path.resolve()), told.st_size, told.st_mtime_ns))
    return found


@cache
def _code() -> list[str]:
    """The libraries' versions, and this package as it is."""
    own = sorted(Path(__file__).parent.glob("*.py"))
    versions = [metadata.version(name) for name in _LIBRARIES]
    return [*versions, digest([path.read_text(encoding="utf-8") for path in own])]


def _forget_oldest(place: Path) -> None:
    files = sorted(place.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[:-_MOST_FILES]:
        path.unlink(missing_ok=True)
