"""The configuration: frozen, typed, checked once. All defaults stand here.

A file is YAML; `--set section.key=value` overrides one value of it. Relative paths in a file
count from the file's folder, those given by `--set` from the working directory.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipelines.errors import InputMissing, UsageError

Auto = Literal["auto"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Paths = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Corpus(_Section):
    """Where the documents are, and which columns hold what."""

    format: Literal["parquet", "jsonl", "beir", "pydocs"]
    paths: Paths
    id: str | None = None
    text: str = "text"
    title: str = "title"
    metadata: Names = ()

    @property
    def id_column(self) -> str:
        """The column of the document's id; BEIR's is `_id`."""
        return self.id or ("_id" if self.format == "beir" else "id")


class Chunking(_Section):
    """How a document is cut; lengths are the encoder's tokens, special ones and prompt counted."""

    max_tokens: Annotated[int, Field(ge=16)] = 256
    overlap_tokens: Annotated[int, Field(ge=0)] = 32
    boundaries: Literal["sentence", "token"] = "sentence"
    whole_document: bool = False


class Encoder(_Section):
    """The bi-encoder."""

    model: str = "sentence-transformers/multi-qa-MiniLM-L6-cos-v1"
    revision: str | None = None
    dtype: Dtype = "auto"
    batch_tokens: Auto | Positive = "auto"
    prompt: str | None = None


class Table(_Section):
    """The LanceDB table."""

    uri: str
    name: Name = "chunks"


class Index(_Section):
    """The vector index and the recall that it must reach."""

    vector: Literal["auto", "none", "ivf_flat", "ivf_pq"] = "auto"
    metric: Literal["cosine", "dot", "l2"] = "cosine"
    min_recall: Fraction = 0.95


class Publish(_Section):
    """What a version must satisfy to become `live`."""

    max_deleted_fraction: Fraction = 0.2


class Columns(_Section):
    """Which columns of the log hold what."""

    id: str = "query_id"
    text: str = "query"
    candidates: str = "candidates"


class Queries(_Section):
    """The query log, and where its candidates come from."""

    format: Literal["jsonl", "parquet", "beir"]
    paths: Paths
    columns: Columns = Columns()
    candidates: Literal["retrieved", "logged", "both"] = "retrieved"
    top_k: Positive = 100
    qrels: str | None = None


class Reranker(_Section):
    """The cross-encoder, and how its scores of chunks make the score of a document."""

    model: str = "cross-encoder/ms-marco-MiniLM-L6-v2"
    revision: str | None = None
    dtype: Dtype = "auto"
    max_length: Annotated[int, Field(ge=16)] | None = 512
    aggregate: Literal["max", "first", "mean"] = "max"
    max_chunks: Positive = 16


class Output(_Section):
    """Where a rerank run writes; `{date}` stands for the day it starts."""

    path: str = "runs/rerank"


class Pool(_Section):
    """How many actors a model gets, and what each of them owns."""

    actors: Auto | Positive = "auto"
    gpus: Auto | Annotated[float, Field(ge=0, allow_inf_nan=False)] = "auto"
    cpus: Auto | Annotated[float, Field(gt=0, allow_inf_nan=False)] = "auto"


class Resources(_Section):
    """The actors of both jobs."""

    encoder: Pool = Pool()
    scorer: Pool = Pool()


class Limits(_Section):
    """What is too much."""

    max_document_bytes: Positive = 20_000_000
    max_quarantined_fraction: Fraction = 0.1
    rejects_hold_deletions: bool = True


class Trust(_Section):
    """Models whose own code may run."""

    remote_code: Names = ()


class Config(_Section):
    """A whole configuration; a section that a command does not use may be absent."""

    corpus: Corpus | None = None
    chunking: Chunking = Chunking()
    encoder: Encoder = Encoder()
    table: Table
    index: Index = Index()
    publish: Publish = Publish()
    queries: Queries | None = None
    reranker: Reranker = Reranker()
    output: Output = Output()
    resources: Resources = Resources()
    limits: Limits = Limits()
    trust: Trust = Trust()

    def require_corpus(self) -> Corpus:
        """The section `corpus`, which this command needs."""
        if self.corpus is None:
            raise UsageError("corpus is missing from the configuration; name its format and paths.")
        return self.corpus

    def require_queries(self) -> Queries:
        """The section `queries`, which this command needs."""
        if self.queries is None:
            raise UsageError(
                "queries is missing from the configuration; name the log's format and paths."
            )
        return self.queries


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)b?\s*", re.IGNORECASE)
# What pydantic's kinds of faults mean to a user.
_ALLOWED = {
    "literal_error": "{expected}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "greater_than": "a number above {gt}",
    "too_short": "a list of at least one",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "model_type": "a section with keys of its own",
    "string_pattern_mismatch": "a name of letters, digits, '.', '_' and '-'",
    "string_too_long": "a name of at most {max_length} characters",
}
_PATHS = {("table", "uri"), ("output", "path"), ("queries", "qrels")}
_MODELS = {("encoder", "model"), ("reranker", "model"), ("trust", "remote_code")}


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
        raise UsageError(_sentence(error)) from None
    for key, value in (("table.uri", config.table.uri), ("output.path", config.output.path)):
        if "://" in value:
            raise UsageError(f"{key} is {value!r}; a folder of the file system is allowed.")
    names = config.corpus.metadata if config.corpus else ()
    if doubled := [name for place, name in enumerate(names) if name in names[:place]]:
        raise UsageError(f"corpus.metadata holds {doubled[0]!r} twice; each name once is allowed.")
    if config.chunking.overlap_tokens * 2 > config.chunking.max_tokens:
        raise UsageError(
            f"chunking.overlap_tokens is {config.chunking.overlap_tokens}; at most half of "
            f"chunking.max_tokens ({config.chunking.max_tokens}) is allowed."
        )
    return config


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
            if (section, key) in _PATHS and isinstance(value, str) and "://" not in value:
                values[key] = _path(folder, value)
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
    return str(folder / os.path.expanduser(value))  # noqa: PTH111 - `~nobody` stays a name


def _model(folder: Path, name: str) -> str:
    """A model is a local folder if that folder exists."""
    local = _path(folder, name)
    return local if name and Path(local).is_dir() else name


def _entry(folder: Path, name: str) -> str:
    """A file, a folder or a glob; what the folder itself is called is no part of the glob."""
    entry = _path(folder, name)
    if glob.has_magic(name) and not Path(entry).exists():
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


def _sentence(error: ValidationError) -> str:
    """The first fault as one sentence: the key, the value and what is allowed."""
    faults = error.errors()
    key, section = _key(faults[0]["loc"])
    kind = faults[0]["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        wrong = str(faults[0]["loc"][-1])
        near = difflib.get_close_matches(wrong, section.model_fields, n=1)
        hint = f"did you mean {near[0]}" if near else "allowed: " + ", ".join(section.model_fields)
        return f"{key} is not a key of the configuration; {hint}."
    if kind == "missing":
        return f"{key} is missing from the configuration."
    # A union gives a fault a member: tell them as one.
    same = [fault for fault in faults if _key(fault["loc"])[0] == key]
    allowed = " or ".join(dict.fromkeys(_allowed(fault) for fault in same))
    return f"{key} is {faults[0]['input']!r}; {allowed} is allowed."


def _key(loc: tuple[int | str, ...]) -> tuple[str, type[_Section]]:
    """The dotted key of a fault, without the member of a union, and the section it stands in."""
    section: type[_Section] = Config
    key = ""
    for place, part in enumerate(loc):
        key += f".{part}" if key else str(part)
        field = section.model_fields.get(str(part))
        inner = field and next(iter(get_args(field.annotation)), field.annotation)
        if not (isinstance(inner, type) and issubclass(inner, _Section)):
            return key + "".join(f"[{n}]" for n in loc[place + 1 :] if isinstance(n, int)), section
        if place + 1 < len(loc):
            section = inner
    return key, section


def _allowed(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    if known := _ALLOWED.get(fault["type"]):
        return known.format(**fault.get("ctx", {}))
    message = str(fault["msg"]).removeprefix("Input should be a").removeprefix(" valid")
    return f"a {message.strip()}"
