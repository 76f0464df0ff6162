"""TREC's topics and runs as a query log: the topics are its lines, the runs their candidates."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pipelines.config import Queries
from pipelines.errors import InputMissing, UsageError
from pipelines.queries.checked_lines import LogRow
from pipelines.queries.log_lines import Gathered, LogPart
from pipelines.storage.places import AnyPath, located
from pipelines.storage.reading import AnyFile, open_file

_TOPIC = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(?:Topic:)?\s*([^<]*)", re.IGNORECASE)
RUN_ENDINGS = (".trec", ".run", ".txt")


def read_trec(settings: Queries, files: Sequence[tuple[AnyFile, str]]) -> LogPart:
    """The topics with the candidates that the runs list for them.

    Raises:
        InputMissing: there is no file of topics.
        UsageError: it is no UTF-8, or holds no topic.
    """
    assert settings.topics is not None  # noqa: S101 - the configuration was checked
    path = located(settings.topics, settings.storage_options or {})
    gathered = Gathered(settings, path.name)
    runs: dict[str, list[dict[str, object]]] = {}
    if settings.candidates != "retrieved":
        for file, source in files:
            _read_run(file, source, runs, gathered)
    for position, query_id, text in _topics(path):
        gathered.add(LogRow(position, query_id, text, runs.pop(query_id, [])))
    for query_id in runs:
        message = f"Query {query_id} of a run is no topic."
        gathered.reject(0, None, "unknown_query", message)
    gathered.fields.update(settings.columns.model_dump(exclude_none=True).values())
    return gathered.finish()


def _topics(path: AnyPath) -> list[tuple[int, str, str]]:
    """(position, id, text) of each topic, in TREC's own markup or as `id<TAB>text` lines."""
    try:
        content = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise InputMissing(f"queries.topics: there is no file {path}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"queries.topics: {path} is no UTF-8.") from None
    found = []
    for match in _TOPIC.finditer(content):
        number, title = _NUMBER.search(match[1]), _TITLE.search(match[1])
        if number and title:
            found.append((match.start(), number[1], title[1]))
    if not found:
        lines = enumerate(content.splitlines())
        tabbed = [(number, *line.partition("\t")) for number, line in lines if line.strip()]
        found = [(number, name.strip(), text) for number, name, tab, text in tabbed if tab]
    if not found:
        raise UsageError(
            f"queries.topics: {path} holds no topic; `id<TAB>text` lines or <top> are allowed."
        )
    return found


def _read_run(
    file: AnyFile, source: str, runs: dict[str, list[dict[str, object]]], gathered: Gathered
) -> None:
    """Add a run's candidates, by query, and reject what is no line of a run."""
    try:
        with open_file(file) as stream:
            content = stream.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        gathered.reject(0, None, "unreadable_file", f"{source}: {error}"[:300])
        return
    for number, line in enumerate(content.splitlines()):
        fields = line.split()
        if not fields:
            continue
        try:
            query, _, doc_id, rank, score, _ = fields
            candidate = {"id": doc_id, "rank": int(rank), "score": float(score)}
        except ValueError:
            gathered.reject(number, None, "broken_line", f"{source}: no line of a run.")
            continue
        if not math.isfinite(float(score)):
            gathered.reject(number, doc_id, "broken_line", f"{source}: the score is not finite.")
            continue
        runs.setdefault(query, []).append(candidate)
