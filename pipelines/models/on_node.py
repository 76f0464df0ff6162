"""A model on the node of a worker, which may be another one than the driver's."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipelines.errors import ModelError
from pipelines.models.fingerprint import file_parts
from pipelines.models.locate import Kind, locate
from pipelines.models.specs import EncoderSpec, ModelSpec
from pipelines.storage.places import is_url
from pipelines.storage.stores import Options

Spec = TypeVar("Spec", bound=ModelSpec)


def on_this_node(spec: Spec, options: Options = ()) -> Spec:
    """The description of a model, with its folder on this node; fetched if it is not there yet.

    `options` open the object store that the model may come from.

    Raises:
        ModelError: it is not here and cannot be had, or is another one than the driver's.
    """
    kind: Kind = "encoder" if isinstance(spec, EncoderSpec) else "scorer"
    folder = spec.folder
    here = Path(folder).is_dir()
    other = _other_parts(spec, folder) if here else []
    if not here or (other and is_url(spec.name)):
        folder = locate(spec.name, spec.revision, kind, options).folder
        other = _other_parts(spec, folder)
    if other:
        raise ModelError(
            f"Model {spec.name} on {socket.gethostname()} is not the one that the run began with "
            f"({', '.join(other)}): put the same files on every node, or name a revision."
        )
    return replace(spec, folder=folder)


def _other_parts(spec: ModelSpec, folder: str) -> list[str]:
    found = file_parts(Path(folder), code_runs=spec.trust_remote_code)
    return [part for part, digest in found.items() if spec.parts.get(part) != digest]
