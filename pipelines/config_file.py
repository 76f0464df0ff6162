"""Reading a configuration: a YAML file, overrides, and one sentence for what is wrong.

Relative paths in a file count from the file's folder, those given by `--set` from the working
directory.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipelines.config import Config
from pipelines.config_faults import sentence
from pipelines.errors import InputMissing, UsageError
from pipelines.secret_options import WITH_PASSWORD, is_secret
from pipelines.storage.places import is_url
from pipelines.storage.stores import STORES

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)b?\s*", re.IGNORECASE)
_PATHS = {
    ("table", "uri"),
    ("output", "path"),
    ("queries", "qrels"),
    ("queries", "topics"),
    ("train", "output"),
    ("train", "runs"),
}
_MODELS = {
    ("encoder", "model"),
    ("reranker", "model"),
    ("train", "start"),
    ("trust", "remote_code"),
}


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply the overrides (`section.key=value`).

    Raises:
        InputMissing: there is no such file.
        UsageError: a key or a value is wrong; the message names it and what is allowed.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputMissing(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"The configuration {path} cannot be read: {reason}") from None
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise UsageError(f"The configuration {path} must be a mapping of sections.")
    layers = [_layer(override) for override in overrides]
    formats = [found for layer in [raw, *layers] if (found := _format(layer)) is not None]
    modules = formats[-1:] == ["pydocs"]
    _absolute(raw, path.resolve().parent, modules)
    for layer in layers:
        _absolute(layer, Path.cwd(), modules)
        _merge(raw, layer)
    return parse_config(raw)


def parse_config(raw: dict[str, Any]) -> Config:
    """Check a nested mapping and make it a configuration.

    Raises:
        UsageError: a key or a value is wrong.
    """
    limits = raw.get("limits")
    if isinstance(limits, dict) and isinstance(size := limits.get("max_document_bytes"), str):
        raw = raw | {"limits": limits | {"max_document_bytes": _bytes(size)}}
    output = raw.get("output")
    if isinstance(output, dict) and isinstance(path := output.get("path"), str):
        output["path"] = path.replace("{date}", f"{datetime.now(UTC):%Y-%m-%d}")
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise UsageError(sentence(error)) from None
    config = _with_storage_options(config)
    for key, value in _places(config):
        scheme, url, rest = value.partition("://")
        if url and (scheme not in STORES or not rest.partition("/")[0]):
            stores = " or ".join(f"{store}://bucket/…" for store in STORES)
            raise UsageError(f"{key} is {value!r}; a path is allowed, or {stores}.")
    _require_trainable(config)
    if config.queries and (config.queries.format == "trec") != (config.queries.topics is not None):
        raise UsageError(
            "queries.topics names the file with the topics' texts; queries.format trec needs it, "
            "and no other format takes it."
        )
    names = config.corpus.metadata if config.corpus else ()
    if doubled := [name for place, name in enumerate(names) if name in names[:place]]:
        raise UsageError(f"corpus.metadata holds {doubled[0]!r} twice; each name once is allowed.")
    if config.chunking.overlap_tokens * 2 > config.chunking.max_tokens:
        raise UsageError(
            f"chunking.overlap_tokens is {config.chunking.overlap_tokens}; at most half of "
            f"chunking.max_tokens ({config.chunking.max_tokens}) is allowed."
        )
    return config


def resolved(config: Config) -> str:
    """The configuration as YAML, every default in its place and no secret."""
    raw: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for section in raw.values():
        options = section.get("storage_options", {})
        options |= {key: "***" for key in options if is_secret(key)}
    page = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True).rstrip()
    return WITH_PASSWORD.sub("://***@", page)


def _places(config: Config) -> Iterator[tuple[str, str]]:
    """The keys that may name an object store, and what they name."""
    yield "table.uri", config.table.uri
    yield "output.path", config.output.path
    yield from (("train.runs", run) for run in config.train.runs)
    if config.corpus and config.corpus.format != "pydocs":
        yield from (("corpus.paths", path) for path in config.corpus.paths)
    if config.queries:
        yield from (("queries.paths", path) for path in config.queries.paths)
        for key in ("qrels", "topics"):
            if value := getattr(config.queries, key):
                yield f"queries.{key}", value


def _require_trainable(config: Config) -> None:
    """Check what the section train says beside others."""
    if is_url(config.train.output):
        raise UsageError(
            f"train.output is {config.train.output!r}; a folder is allowed that all nodes reach. "
            "`tandem models fetch FOLDER --to URL` then brings the model into a store."
        )
    if config.train.fusion_weight != "auto" and config.index.metric != "cosine":
        raise UsageError(
            f"train.fusion_weight is {config.train.fusion_weight}, which weighs a logit beside a "
            f"cosine, and index.metric is {config.index.metric}; auto is allowed, and fuses by "
            "standardised scores there."
        )


def _with_storage_options(config: Config) -> Config:
    """Sections that name no storage options have those of the table."""
    own = {"storage_options": config.table.storage_options}
    sections = {"corpus": config.corpus, "queries": config.queries, "output": config.output}
    return config.model_copy(
        update={
            name: section.model_copy(update=own)
            for name, section in sections.items()
            if section is not None and section.storage_options is None
        }
    )


def _format(raw: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever YAML holds
    corpus = raw.get("corpus")
    return corpus.get("format") if isinstance(corpus, dict) else None


def _layer(override: str) -> dict[str, Any]:
    """The nested mapping that `section.key=value` stands for."""
    key, equals, value = override.partition("=")
    keys = key.strip().split(".")
    if not (equals and len(keys) > 1 and all(keys)):
        raise UsageError(f"--set takes section.key=value, not {override!r}.")
    return _nest(keys, _yaml_value(key.strip(), value))


def _bytes(size: str) -> int:
    if not (match := _SIZE.fullmatch(size)):
        raise UsageError(
            f"limits.max_document_bytes is {size!r}; a number of bytes is allowed, or "
            "a size such as 20MB."
        )
    return int(float(match[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[match[2].lower()])


def _absolute(raw: dict[str, Any], folder: Path, modules: bool) -> None:
    """Make the relative paths of a raw configuration count from a folder.

    `modules` says that the entries of corpus.paths name Python modules and no files.
    """
    for section, values in raw.items():
        if not isinstance(values, dict):
            continue
        for key, value in values.items():
            if (section, key) in _PATHS:
                values[key] = _each(value, lambda name: _path(folder, name))
            elif (section, key) in _MODELS:
                values[key] = _each(value, lambda name: _model(folder, name))
            elif key == "paths":
                entries = [value] if isinstance(value, str) else value
                local = not (section == "corpus" and modules)
                values[key] = (
                    _each(entries, lambda name: _entry(folder, name)) if local else entries
                )


def _each(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - whatever YAML holds
    """The value with its string, or the strings of its list, changed."""
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _path(folder: Path, value: str) -> str:
    if is_url(value):
        return value
    # Unlike Path.expanduser this leaves the home of nobody as it is.
    return str(folder / os.path.expanduser(value))  # noqa: PTH111


def _model(folder: Path, name: str) -> str:
    """A model is a local folder if that folder exists."""
    local = _path(folder, name)
    return local if name and Path(local).is_dir() else name


def _entry(folder: Path, name: str) -> str:
    """A file, a folder or a glob; what the folder itself is called is no part of the glob."""
    entry = _path(folder, name)
    if not is_url(name) and glob.has_magic(name) and not Path(entry).exists():
        return _path(Path(glob.escape(str(folder))), name)
    return entry


def _yaml_value(key: str, value: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {key}: {value!r} is not a YAML value.") from None


def _nest(keys: list[str], value: Any) -> dict[str, Any]:  # noqa: ANN401
    for key in reversed(keys):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def _merge(into: dict[str, Any], layer: dict[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
