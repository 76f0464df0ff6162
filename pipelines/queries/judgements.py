"""The judgements that a configuration names: to judge a run by, or to learn from."""

from __future__ import annotations

from collections.abc import Collection

from pipelines.config import Config
from pipelines.errors import InputMissing, UsageError
from pipelines.queries.runs import read_qrels
from pipelines.storage.places import AnyPath, located

_SHOWN = 3


def judgements(config: Config, *, to_learn: bool = False) -> AnyPath | None:
    """The file with the judgements.

    A folder is BEIR's: it is judged by `test.tsv`, and learnt from `train.tsv` if there is one.

    Raises:
        InputMissing: the configuration names one that does not exist.
    """
    queries = config.require_queries()
    if queries.qrels is None:
        return None
    path = located(queries.qrels, queries.storage_options or {})
    if path.is_dir():
        train = path / "train.tsv"
        path = train if to_learn and train.is_file() else path / "test.tsv"
    if not path.is_file():
        raise InputMissing(f"queries.qrels: there is no file {path}.")
    return path


def load_judgements(path: AnyPath) -> dict[str, dict[str, int]]:
    """The judgements of a file, by query and document.

    Raises:
        UsageError: it holds none, or something else.
    """
    try:
        qrels = {query: dict(grades) for query, grades in read_qrels(path).items()}
    except (ValueError, OSError) as error:
        raise UsageError(f"queries.qrels: {path} cannot be read: {error}.") from error
    if not qrels:
        raise UsageError(f"queries.qrels: {path} holds no judgement.")
    return qrels


def require_judged(judged: Collection[str], asked: Collection[str], what: str, who: str) -> None:
    """Check that some of the queries that are asked are judged, ids as in run files.

    Raises:
        UsageError: none is; `what` judges them, `who` asks them.
    """
    if not set(judged) & set(asked):
        raise UsageError(
            f"queries.qrels: {what} judges none of the queries in {who}; it judges "
            f"{_some(judged)}, and asked are {_some(asked)}."
        )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN])
