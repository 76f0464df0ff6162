"""The objects, or the folders of a kind, that a URL of a configuration names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from pipelines.storage.objects import ObjectPath

_WILD = re.compile(r"\*|\?|\[(!?)([^\]]+)\]")


def listed_objects(
    entry: ObjectPath, endings: Sequence[str]
) -> tuple[list[ObjectPath], ObjectPath]:
    """The objects that an entry names, and the folder that their names count from.

    It is an object, a folder (all objects below it with one of the endings) or a glob.
    """
    if _WILD.search(entry.url):
        top, wanted = _parted(entry)
        objects = [found for found, _ in top.below()]
        return [found for found in objects if wanted.fullmatch(name_below(found, top))], top
    if entry.key and entry.is_file():
        return [entry], entry.parent
    objects = [found for found, _ in entry.below()]
    return [found for found in objects if found.url.lower().endswith(tuple(endings))], entry


def listed_folders(
    entry: ObjectPath, is_one: Callable[[ObjectPath], bool]
) -> tuple[list[ObjectPath], ObjectPath]:
    """The folders of a kind that an entry names: it is one, has some below, or is a glob."""
    if _WILD.search(entry.url):
        top, wanted = _parted(entry)
        folders = _folders_below(top, is_one)
        return [found for found in folders if wanted.fullmatch(name_below(found, top))], top
    if is_one(entry):
        return [entry], entry.parent
    return list(_folders_below(entry, is_one)), entry


def name_below(path: ObjectPath, top: ObjectPath) -> str:
    """The name of a path below a folder."""
    return path.url[len(top.url) + 1 :]


def _folders_below(top: ObjectPath, is_one: Callable[[ObjectPath], bool]) -> Iterator[ObjectPath]:
    for folder in top.folders():
        if is_one(folder):
            yield folder
        else:
            yield from _folders_below(folder, is_one)


def _parted(entry: ObjectPath) -> tuple[ObjectPath, re.Pattern[str]]:
    """The folder before the first wildcard, and what names below it must match."""
    parts = entry.url.split("/")
    first = next(place for place, part in enumerate(parts) if _WILD.search(part))
    *folders, last = parts[first:]
    above = ["(?:[^/]+/)*" if part == "**" else f"{_pattern(part)}/" for part in folders]
    wanted = "".join(above) + (".*" if last == "**" else _pattern(last))
    return ObjectPath("/".join(parts[:first]), entry.options), re.compile(wanted)


def _pattern(part: str) -> str:
    """What stands between two slashes, as a regular expression."""
    found, at = "", 0
    for match in _WILD.finditer(part):
        found += re.escape(part[at : match.start()])
        if match[2] is not None:
            characters = match[2].replace("\\", r"\\")
            found += f"[{'^' if match[1] else ''}{characters}]"
        else:
            found += "[^/]*" if match[0] == "*" else "[^/]"
        at = match.end()
    return found + re.escape(part[at:])
