"""What is in the folder of a model that was fetched: its files with their digests.

The list is written when all files are there, so a folder that has one was fetched whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path

from pipelines.errors import ModelError
from pipelines.storage.places import AnyPath

MANIFEST = "tandem-model.json"


@dataclass(frozen=True)
class ModelFile:
    """A file: its path in the folder, its size, and the hex SHA-256 of its content."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A model that was fetched: its name, the commit it is of (None for a folder), its files."""

    name: str
    revision: str | None
    files: tuple[ModelFile, ...]

    @classmethod
    def of(cls, name: str, revision: str | None, folder: Path, paths: Iterable[Path]) -> Manifest:
        """That of some files of a folder."""
        files = tuple(model_file(folder, path) for path in sorted(paths))
        return cls(name, revision, files)

    def encoded(self) -> bytes:
        """As it is written."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


def model_file(folder: Path, path: Path) -> ModelFile:
    """A file of a folder, read once."""
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    return ModelFile(path.relative_to(folder).as_posix(), path.stat().st_size, found)


def read_manifest(folder: AnyPath) -> Manifest | None:
    """The list of a folder, None if it has none.

    Raises:
        ModelError: it is none.
        StorageFault: an object store cannot be reached.
    """
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = tuple(ModelFile(**file) for file in raw.pop("files"))
        return Manifest(**raw, files=files)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / MANIFEST} is damaged; fetch the model again.") from error


def is_whole(folder: AnyPath, manifest: Manifest) -> bool:
    """Whether a folder has this list, and what it lists; of objects only the sizes are looked at.

    Raises:
        StorageFault: an object store cannot be reached.
    """
    try:
        return read_manifest(folder) == manifest and all(
            model_file(folder, folder / file.path) == file
            if isinstance(folder, Path)
            else (folder / file.path).stat().st_size == file.size_bytes
            for file in manifest.files
        )
    except (ModelError, FileNotFoundError):
        return False


def require_files(name: str, folder: Path) -> None:
    """Check the files of a folder that has a list.

    Raises:
        ModelError: one is missing, or is not what was fetched.
    """
    manifest = read_manifest(folder)
    for file in manifest.files if manifest else ():
        path = folder / file.path
        if not path.is_file() or model_file(folder, path) != file:
            raise ModelError(
                f"Model {name}: {path} is not the file that was fetched; fetch the model again."
            )
