"""The files, or the folders of a kind, that the paths of a configuration name."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.corpus.read.object_paths import listed_folders, listed_objects, name_below
from pipelines.errors import InputMissing
from pipelines.storage.objects import ObjectPath
from pipelines.storage.reading import AnyFile

# What glob.escape makes of a character that means something in a pattern.
_ESCAPED = re.compile(r"\[([*?[])\]")


def expand(paths: Sequence[AnyFile], key: str, endings: Sequence[str]) -> list[tuple[AnyFile, str]]:
    """The files that paths name, sorted, as (file, its path relative to the entry).

    An entry is a file, a folder (all files below it with one of the endings) or a glob, whose
    files are relative to the folder before its first wildcard; objects of a store are named in the
    same ways. A file that two entries name goes by the first. A link that leads nowhere is a file,
    and a folder that cannot be listed stands for what is in it, its relative path ending in a
    slash: neither can be read, which readers say.

    Raises:
        InputMissing: an entry names nothing.
    """
    found: dict[AnyFile, str] = {}
    for entry in paths:
        if isinstance(entry, ObjectPath):
            objects, above = listed_objects(entry, endings)
            if not objects:
                wanted = " or ".join(endings)
                raise InputMissing(f"{key}: there is no object {entry}, and no {wanted} below it.")
            for one in objects:
                found.setdefault(one, name_below(one, above))
            continue
        top = Path(entry)
        if os.path.isdir(entry):  # noqa: PTH112 - globs and folders alike are strings here
            matches = list(_files_below(entry, tuple(endings)))
            if not matches:
                raise InputMissing(f"{key}: the folder {entry} holds no {' or '.join(endings)}.")
        elif top.is_file():
            matches, top = [entry], top.parent
        else:
            matches, top = _globbed(entry, _is_file)
            if not matches:
                raise InputMissing(f"{key}: there is no file or folder {entry}.")
        for file in matches:
            found.setdefault(file, _relative(file, top))
    return _sorted(found)


def expand_folders(
    paths: Sequence[AnyFile], key: str, what: str, is_one: Callable[[AnyFile], bool]
) -> list[tuple[AnyFile, str]]:
    """The folders of a kind that paths name, sorted, as (folder, its path relative to the entry).

    An entry is such a folder, which goes by its name, a folder with some below it, or a glob.
    Within one no others are looked for.

    Raises:
        InputMissing: an entry names nothing; `what` is what it should have been.
    """
    found: dict[AnyFile, str] = {}
    for entry in paths:
        if isinstance(entry, ObjectPath):
            folders, above = listed_folders(entry, is_one)
            if not folders:
                raise InputMissing(f"{key}: {entry} is no {what} and holds none.")
            for one in folders:
                found.setdefault(one, name_below(one, above))
            continue
        top = Path(entry)
        if is_one(entry):
            matches, top = [entry], top.parent
        elif top.is_dir():
            matches = list(_folders_below(entry, is_one))
        else:
            matches, top = _globbed(entry, is_one)
        if not matches:
            raise InputMissing(f"{key}: {entry} is no {what} and holds none.")
        for folder in matches:
            found.setdefault(str(Path(folder)), _relative(folder.rstrip(os.sep), top))
    return _sorted(found)


def _sorted(found: Mapping[AnyFile, str]) -> list[tuple[AnyFile, str]]:
    return sorted(found.items(), key=lambda pair: (str(pair[0]), pair[1]))


def _files_below(folder: str, endings: tuple[str, ...]) -> Iterator[str]:
    unlisted: list[OSError] = []
    for parent, _, names in os.walk(folder, onerror=unlisted.append):
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - many thousands of them
            if name.lower().endswith(endings) and _is_file(path):
                yield path
    yield from (os.path.join(error.filename, "") for error in unlisted)  # noqa: PTH118


def _folders_below(folder: str, is_one: Callable[[str], bool]) -> Iterator[str]:
    for parent, names, _ in os.walk(folder):
        own = {name: os.path.join(parent, name) for name in names}  # noqa: PTH118
        matches = {name for name, path in own.items() if is_one(path)}
        yield from (own[name] for name in matches)
        names[:] = [name for name in names if name not in matches]


def _globbed(pattern: str, wanted: Callable[[str], bool]) -> tuple[list[str], Path]:
    """What a glob matches, and the folder that stands before its first wildcard."""
    if not glob.has_magic(pattern):
        return [], Path(pattern)
    parts = list(Path(pattern).parts)
    fixed = Path()
    while len(parts) > 1 and not glob.has_magic(_ESCAPED.sub("", parts[0])):
        fixed /= _ESCAPED.sub(r"\1", parts.pop(0))
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207
    return [path for path in matches if wanted(path)], fixed


def _is_file(path: str) -> bool:
    """Whether it is one, or would be one if its link led anywhere."""
    return os.path.isfile(path) or not os.path.exists(path)  # noqa: PTH110, PTH113


def _relative(path: str, top: Path) -> str:
    """The path below the entry with slashes; what no UTF-8 is in a name is written as code."""
    below = Path(path).relative_to(top).as_posix()
    shown = os.fsencode(below).decode("utf-8", "backslashreplace")
    return f"{shown}/" if path.endswith(os.sep) else shown
