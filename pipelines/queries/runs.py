"""Run files in TREC's format: `query Q0 document rank score tag`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.queries.pairs import Ints
from pipelines.queries.rank import Floats, strictly_falling

_SPACE = re.compile(r"\s")
_BLANK = re.compile(r"[\s%]")


def trec_id(name: str) -> str:
    """An id as it stands in a run file: white space, which ends a field there, as %20 and so on.

    Most ids hold none and stay as they are; in one that does, a percent sign is escaped too.
    """
    if not _SPACE.search(name):
        return name
    return _BLANK.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), name)


def write_run(
    path: Path,
    tag: str,
    names: Sequence[Sequence[str]],
    queries: Ints,
    doc_ids: Sequence[str],
    scores: Floats,
    order: Ints,
) -> None:
    """Write the rows in `order`, by query and rank, once for each name of their query.

    `names[q]` are the ids under which query `q` is written; scores strictly decrease with rank.
    """
    with path.open("w", encoding="utf-8") as file:
        bounds = np.flatnonzero(np.diff(queries[order])) + 1
        for rows in np.split(order, bounds):
            if not len(rows):
                continue
            falling = strictly_falling(scores[rows])
            for name in names[int(queries[rows[0]])]:
                for rank, (row, score) in enumerate(zip(rows, falling, strict=True), 1):
                    document = trec_id(doc_ids[row])
                    file.write(f"{trec_id(name)} Q0 {document} {rank} {score:.9g} {tag}\n")


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """A run file as {query: {document: score}}."""
    run: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        query, _, document, _, score, _ = line.split()
        run.setdefault(query, {})[document] = float(score)
    return run


def names_of(
    first_ids: Sequence[str], line_ids: Sequence[str], line_queries: Sequence[int], judged: set[str]
) -> list[list[str]]:
    """The ids that each distinct query is written under: the first, and every other judged one."""
    names = [[query_id] for query_id in first_ids]
    for line_id, number in zip(line_ids, line_queries, strict=True):
        if trec_id(line_id) in judged and line_id not in names[number]:
            names[number].append(line_id)
    return names


def read_qrels(path: Path) -> Mapping[str, Mapping[str, int]]:
    """Judgements as {query: {document: grade}}, ids as in run files; raises ValueError."""
    qrels: dict[str, dict[str, int]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        tabbed = line.split("\t")
        fields = tabbed if len(tabbed) in (3, 4) else line.split()
        if not line.strip() or (number == 1 and fields[-1].strip() == "score"):
            continue
        if len(fields) == 4:
            fields = [fields[0], *fields[2:]]
        if len(fields) != 3 or not re.fullmatch(r"-?\d+", fields[2].strip()):
            raise ValueError(f"line {number} is neither `query document grade` nor TREC's form")
        query, document, grade = fields
        qrels.setdefault(trec_id(query), {})[trec_id(document)] = int(grade)
    return qrels
