"""What makes two copies of a model the same model: digests of its parts, by name.

Digests are taken of files, not of loaded objects, so that another version of a library does not
change them. Where a model came from, what it is called and its number format are no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pipelines.models.locate import module_entries, read_json, weight_files

_DIGEST_BYTES = 16
_READ_BYTES = 1 << 22

# Keys that say who wrote a file, where and when, or what another part covers.
_NOISE = {
    "__version__",
    "_commit_hash",
    "_name_or_path",
    "backend",
    "dtype",
    "is_local",
    "local_files_only",
    "max_seq_length",
    "model_max_length",
    "name_or_path",
    "special_tokens_map_file",
    "tokenizer_file",
    "torch_dtype",
    "transformers_version",
}
_MODULE_CONFIGS = (
    "adapter_config.json",
    "config.json",
    "router_config.json",
    "sentence_*_config.json",
)
_TOKENIZER_CONFIGS = {"special_tokens_map.json", "tokenizer_config.json"}
_TOKENIZER_FILES = {
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "vocab.json",
    "vocab.txt",
}
_TOKENIZER_ENDINGS = {".model", ".spm"}
# Described by parts of their own, from what was loaded.
_TOLD_APART = {"Pooling", "Normalize"}


def file_parts(folder: Path, *, code_runs: bool) -> dict[str, str]:
    """Digests of `weights`, `modules`, `tokenizer` and `code`, which counts only if it may run."""
    code = sorted(folder.rglob("*.py")) if code_runs else []
    return {
        "weights": _files(folder, weight_files(folder)),
        "modules": digest(_module_configs(folder)),
        "tokenizer": _tokenizer(folder),
        "code": _files(folder, code),
    }


def digest(value: Any) -> str:  # noqa: ANN401 - anything that JSON can hold
    """Hex digest of a value, the same for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def ids_digest(tokenizer_json: str) -> str:
    """Digest of what decides a tokeniser's bare ids: of equal digests, equal ids of every text."""
    content = json.loads(tokenizer_json)
    other = {"truncation", "padding", "post_processor", "decoder"}
    return digest({key: value for key, value in content.items() if key not in other})


def _files(folder: Path, paths: Iterable[Path]) -> str:
    whole = blake2b(digest_size=_DIGEST_BYTES)
    for path in paths:
        one = blake2b(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                one.update(block)
        whole.update(one.digest())
    return whole.hexdigest()


def _module_configs(folder: Path) -> list[Any]:
    configs: list[Any] = [["", _configs(folder)]]
    for entry in module_entries(folder):
        kind = entry["type"]
        if kind.startswith("sentence_transformers."):
            kind = kind.rpartition(".")[2]  # they moved between versions of the library
        inside = entry["path"] and kind not in _TOLD_APART
        configs.append([kind, _configs(folder / entry["path"]) if inside else []])
    return configs


def _configs(folder: Path) -> list[Any]:
    paths = [path for pattern in _MODULE_CONFIGS for path in sorted(folder.glob(pattern))]
    return [[path.name, _clean(read_json(path))] for path in paths]


def _tokenizer(folder: Path) -> str:
    digests = []
    for path in sorted(folder.rglob("*")):
        if path.name == "tokenizer.json":
            content = read_json(path)
            told_by_caller = {"truncation", "padding"}
            found = digest({k: v for k, v in content.items() if k not in told_by_caller})
        elif path.name in _TOKENIZER_CONFIGS:
            found = digest(_clean(read_json(path)))
        elif path.name in _TOKENIZER_FILES or path.suffix in _TOKENIZER_ENDINGS:
            found = _files(path.parent, [path])
        else:
            continue
        digests.append([path.relative_to(folder).as_posix(), found])
    return digest(digests)


def _clean(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items() if key not in _NOISE}
    return [_clean(item) for item in value] if isinstance(value, list) else value
