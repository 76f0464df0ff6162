"""The files that the paths of a configuration name."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import InputMissing


def expand(paths: Sequence[str], key: str, endings: Sequence[str]) -> list[tuple[str, str]]:
    """The files that paths name, sorted, as (file, its path relative to the entry).

    An entry is a file, a folder (all files below it with one of the endings) or a glob.

    Raises:
        InputMissing: an entry names nothing.
    """
    found: dict[str, str] = {}
    for entry in paths:
        if os.path.isdir(entry):  # noqa: PTH112 - globs and folders alike are strings here
            files = sorted(file for file in Path(entry).rglob("*") if file.is_file())
            matches = [str(file) for file in files if file.name.lower().endswith(tuple(endings))]
            if not matches:
                raise InputMissing(f"{key}: the folder {entry} holds no {' or '.join(endings)}.")
            found |= {file: str(Path(file).relative_to(entry)) for file in matches}
            continue
        matches = [entry] if Path(entry).is_file() else glob.glob(entry, recursive=True)  # noqa: PTH207
        matches = [file for file in matches if Path(file).is_file()]
        if not matches:
            raise InputMissing(f"{key}: there is no file or folder {entry}.")
        found |= {file: Path(file).name for file in matches}
    return sorted(found.items())
