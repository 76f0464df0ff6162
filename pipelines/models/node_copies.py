"""Models of an object store, downloaded once for all processes of a node."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from pipelines.errors import ModelError
from pipelines.models.cache_folder import download_folder
from pipelines.models.manifest import MANIFEST, Manifest, is_whole, read_manifest, require_files
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import write_bytes


def copy_of(url: ObjectPath) -> tuple[Path, Manifest]:
    """The folder of this node that holds a model of an object store, and what was put there.

    Raises:
        ModelError: no model was put there, or a file is not the one that was.
        StorageFault: the object store cannot be reached, or refuses.
    """
    manifest = read_manifest(url)
    if manifest is None:
        raise ModelError(
            f"There is no model at {url}; put one there with `tandem models fetch NAME --to …` and "
            "name the folder that it prints."
        )
    own = blake2b(url.url.encode() + manifest.encoded(), digest_size=16).hexdigest()
    folder = download_folder() / own
    with _alone(folder.with_suffix(".lock")):
        if not is_whole(folder, manifest):
            _download(url, manifest, folder)
    return folder, manifest


def _download(url: ObjectPath, manifest: Manifest, folder: Path) -> None:
    aside = folder.with_suffix(".partial")
    shutil.rmtree(aside, ignore_errors=True)
    for file in manifest.files:
        path = aside / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        (url / file.path).download(path)
    write_bytes(aside / MANIFEST, manifest.encoded())
    require_files(manifest.name, aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """While the block runs, no other process of this node is in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
