"""Where things are: a path of this machine, or one of an object store."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.storage.objects import ObjectPath, Stat
from pipelines.storage.stores import Options

AnyPath = Path | ObjectPath


def is_url(text: str) -> bool:
    """Whether a text names something in an object store."""
    return "://" in text


def located(text: str, options: Mapping[str, str] | Options = ()) -> AnyPath:
    """The path that a text of a configuration names."""
    return ObjectPath.of(text, options) if is_url(text) else Path(text)


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Put the content in the place of what was there; it is there whole or not at all."""
    if isinstance(path, ObjectPath):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def create(path: AnyPath, content: bytes, name: str) -> bool:
    """Put the content if nothing is there; of several who try, one does.

    Content and `name` tell this one from the others who try. False also where the folder is gone
    again.
    """
    if isinstance(path, ObjectPath):
        return path.create(content)
    aside = path.with_name(f"{name}.claim")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        os.link(aside, path)
    except (FileExistsError, FileNotFoundError):
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def remove(path: AnyPath) -> None:
    """Remove a file, or a folder with all that is in it; nothing where there is none."""
    if isinstance(path, ObjectPath):
        for found, _ in path.below():
            found.unlink()
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(source: Path, path: AnyPath) -> None:
    """Move a file or a folder of this machine to the place of what was there."""
    if not isinstance(path, ObjectPath):
        if path.is_dir():
            shutil.rmtree(path)
        source.replace(path)
        return
    if source.is_dir():
        remove(path)
        for file in source.rglob("*"):
            if file.is_file():
                (path / file.relative_to(source).as_posix()).upload(file)
    else:
        path.upload(source)


def listed(folder: AnyPath, pattern: str) -> Iterator[tuple[AnyPath, Stat]]:
    """The files directly below whose names match, with their sizes and times."""
    if isinstance(folder, ObjectPath):
        yield from folder.listed(pattern)
        return
    for file in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            found = file.stat()
            yield file, Stat(found.st_size, found.st_mtime)


def below(folder: AnyPath) -> Iterator[tuple[AnyPath, Stat]]:
    """All files below, however deep, in no order."""
    if isinstance(folder, ObjectPath):
        yield from folder.below()
        return
    for file in folder.rglob("*"):
        if file.is_file():
            found = file.stat()
            yield file, Stat(found.st_size, found.st_mtime)


def new_folders(folder: AnyPath) -> list[Path]:
    """The folder and those above it that are not there yet, the lowest first."""
    if isinstance(folder, ObjectPath):
        return []
    return [place for place in (folder, *folder.parents) if not place.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove folders in which nothing stands."""
    for folder in folders:
        with contextlib.suppress(OSError):  # something does, or another was faster
            folder.rmdir()
