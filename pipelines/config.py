"""The configuration: frozen, typed, checked once. All defaults stand here.

A file is YAML; `--set section.key=value` overrides one value of it. Relative paths in a file
count from the file's folder, those given by `--set` from the working directory.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipelines.errors import InputMissing, UsageError

Auto = Literal["auto"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
Paths = Annotated[tuple[str, ...], Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Corpus(_Section):
    """Where the documents are, and which columns hold what."""

    format: Literal["parquet", "jsonl", "beir", "pydocs"]
    paths: Paths
    id: str | None = None
    text: str = "text"
    title: str = "title"
    metadata: tuple[str, ...] = ()

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
    gpus: Auto | Annotated[float, Field(ge=0)] = "auto"
    cpus: Auto | Annotated[float, Field(gt=0)] = "auto"


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

    remote_code: tuple[str, ...] = ()


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
_PATHS = {("table", "uri"), ("output", "path"), ("queries", "qrels")}
_MODELS = {("encoder", "model"), ("reranker", "model")}


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
    corpus = raw.get("corpus")
    modules = isinstance(corpus, dict) and corpus.get("format") == "pydocs"
    _absolute(raw, path.resolve().parent, modules)
    for override in overrides:
        key, equals, value = override.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot and section and name):
            raise UsageError(f"--set takes section.key=value, not {override!r}.")
        single = _nest(name.split("."), _yaml_value(key, value))
        modules = single == {"format": "pydocs"} if key == "corpus.format" else modules
        _absolute(layer := {section: single}, Path.cwd(), modules)
        _merge(raw, layer)
    return parse_config(raw)


def parse_config(raw: dict[str, Any]) -> Config:
    """Check a nested mapping and make it a configuration.

    Raises:
        UsageError: a key or a value is wrong.
    """
    limits = raw.get("limits")
    if isinstance(limits, dict) and isinstance(size := limits.get("max_document_bytes"), str):
        if not (match := _SIZE.fullmatch(size)):
            raise UsageError(
                f"limits.max_document_bytes is {size!r}; a number of bytes is allowed, or "
                "a size such as 20MB."
            )
        unit = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[match[2].lower()]
        limits["max_document_bytes"] = int(float(match[1]) * unit)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise UsageError(_sentence(error)) from None
    if "://" in config.table.uri:
        raise UsageError(
            f"table.uri is {config.table.uri!r}; a folder of the file system is allowed."
        )
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
        matches = [entry] if Path(entry).is_file() else sorted(glob.glob(entry, recursive=True))  # noqa: PTH207
        if not matches:
            raise InputMissing(f"{key}: there is no file or folder {entry}.")
        found |= {file: Path(file).name for file in matches if Path(file).is_file()}
    return sorted(found.items())


def _absolute(raw: dict[str, Any], folder: Path, modules: bool) -> None:
    """Make the relative paths of a raw configuration count from a folder.

    `modules` says that the entries of corpus.paths name Python modules and no files.
    """
    for section, values in raw.items():
        if not isinstance(values, dict):
            continue
        for key, value in values.items():
            if (section, key) in _PATHS and isinstance(value, str) and "://" not in value:
                values[key] = str(folder / Path(value).expanduser())
            elif (section, key) in _MODELS and isinstance(value, str):
                local = folder / Path(value).expanduser()
                values[key] = str(local) if local.is_dir() else value
            elif key == "paths" and isinstance(value, str | list):
                entries = [value] if isinstance(value, str) else value
                local = not (section == "corpus" and modules)
                values[key] = [
                    str(folder / Path(entry).expanduser())
                    if local and isinstance(entry, str)
                    else entry
                    for entry in entries
                ]


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
    # A union gives a fault a member: tell them as one.
    where = [str(part) for part in faults[0]["loc"]]
    model: type[BaseModel] = Config
    path: list[str] = []
    for part in where:
        if part.isdigit():
            path[-1] += f"[{part}]"
        elif part in model.model_fields or faults[0]["type"] == "extra_forbidden":
            path.append(part)
            inner = model.model_fields[part].annotation if part in model.model_fields else None
            sections = [kind for kind in getattr(inner, "__args__", (inner,)) if kind is not None]
            if isinstance(sections[0] if sections else None, type) and issubclass(
                sections[0], BaseModel
            ):
                model = sections[0]
    key, kind = ".".join(path), faults[0]["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(where[-1], model.model_fields, n=1)
        hint = f"did you mean {near[0]}" if near else "allowed: " + ", ".join(model.model_fields)
        return f"{key} is not a key of the configuration; {hint}."
    if kind == "missing":
        return f"{key} is missing from the configuration."
    allowed = " or ".join(dict.fromkeys(_allowed(fault) for fault in faults if _same(fault, where)))
    return f"{key} is {faults[0]['input']!r}; {allowed} is allowed."


def _same(fault: Any, where: list[str]) -> bool:  # noqa: ANN401 - pydantic's ErrorDetails
    loc = [str(part) for part in fault["loc"]]
    return loc == where or (len(where) > 1 and loc[:-1] == where[:-1])


def _allowed(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    context = fault.get("ctx", {})
    match fault["type"]:
        case "literal_error":
            return str(context["expected"])
        case "greater_than_equal":
            return f"a number of at least {context['ge']}"
        case "less_than_equal":
            return f"a number of at most {context['le']}"
        case "greater_than":
            return f"a number above {context['gt']}"
        case "too_short":
            return "a list of at least one"
        case "model_type" | "model_attributes_type":
            return "a section with keys of its own"
        case "string_pattern_mismatch":
            return "a name of letters, digits, '.', '_' and '-'"
    message = str(fault["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return message.split(",")[0]
