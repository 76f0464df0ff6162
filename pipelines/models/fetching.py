"""Models for clusters that reach no hub: put into a folder, or into an object store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from pipelines.models.locate import Kind, locate, model_files
from pipelines.models.manifest import MANIFEST, Manifest, is_whole
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import AnyPath, replace, write_bytes


def fetch(name: str, kind: Kind, to: AnyPath, say: Callable[[str], None]) -> AnyPath:
    """Put a model, `NAME` or `NAME@REVISION`, below `to`; the folder that a configuration names.

    One that is there already, whole, is left as it is.

    Raises:
        ModelError: there is no such model, or it cannot be fetched.
        StorageFault: the object store cannot be reached, or refuses.
    """
    plain, _, revision = name.partition("@")
    located = locate(plain, revision or None, kind)
    folder = Path(located.folder)
    manifest = Manifest.of(plain, located.revision, folder, model_files(folder))
    own = located.revision or blake2b(manifest.encoded(), digest_size=8).hexdigest()
    # Of a folder its last part is enough to know it by; the digest tells it from its namesakes.
    known_as = Path(plain).resolve().name if Path(plain).is_dir() else plain.replace("/", "--")
    target = to / known_as / own
    if is_whole(target, manifest):
        say(f"{name} is there already.")
        return target
    for file in manifest.files:
        say(f"{name}: {file.path}, {file.size_bytes / 1e6:,.1f} MB")
        _copy(folder / file.path, target / file.path)
    write_bytes(target / MANIFEST, manifest.encoded())
    return target


def _copy(source: Path, target: AnyPath) -> None:
    if isinstance(target, ObjectPath):
        target.upload(source)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.partial")
    shutil.copyfile(source, aside)
    replace(aside, target)
