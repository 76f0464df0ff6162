"""What is taken of the ledger, against the same rules in plain Python."""

from dataclasses import dataclass

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.identity import digest
from pipelines.table.ledger import NUMBERED_ROWS
from pipelines.table.settle import Settled, settle


@dataclass(frozen=True)
class Edition:
    """A content of a document: its passages are shared with its other editions."""

    doc_id: str
    passages: str

    @property
    def doc_hash(self) -> bytes:
        return digest(self.passages)

    @property
    def chunks(self) -> list[str]:
        return [f"{self.doc_id}/{passage}" for passage in self.passages]


@dataclass(frozen=True)
class Row:
    """A staged row: a chunk of an edition, in an entry."""

    entry: int
    row: int
    edition: Edition
    chunk: str


def staged_of(rows: list[Row]) -> pa.Table:
    values = [
        {
            "chunk_id": row.chunk,
            "doc_id": row.edition.doc_id,
            "text_hash": digest(row.chunk[-1]),
            "doc_hash": row.edition.doc_hash,
            "chunks_of_document": len(row.edition.chunks),
            "entry": row.entry,
            "row": row.row,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(values, NUMBERED_ROWS)


def wanted_of(editions: list[Edition]) -> pa.Table:
    return pa.table(
        {
            "piece": pa.array(range(len(editions)), pa.int32()),
            "doc_id": pa.array([edition.doc_id for edition in editions], pa.string()),
            "doc_hash": pa.array([edition.doc_hash for edition in editions], pa.binary(16)),
        }
    )


def entries(*contents: list[tuple[Edition, str]]) -> list[Row]:
    """Staged entries, each a list of (edition, its passages that are in it)."""
    rows = []
    for number, content in enumerate(contents):
        chunks = [
            (edition, f"{edition.doc_id}/{name}") for edition, part in content for name in part
        ]
        rows += [Row(number, place, *chunk) for place, chunk in enumerate(chunks)]
    return rows


def oracle(wanted: list[Edition], rows: list[Row]) -> dict[str, object]:
    """The rules, one row after the other."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row.entry, row.row)):
        if row.edition in wanted:
            first.setdefault(row.chunk, row)
    whole = {edition for edition in wanted if all(chunk in first for chunk in edition.chunks)}
    return {
        "missing": [edition.doc_id for edition in wanted if edition not in whole],
        "taken": [(row.entry, row.row, row.chunk) for row in first.values()],
        "partial": {row.chunk for row in first.values() if row.edition not in whole},
    }


def told(settled: Settled) -> dict[str, object]:
    taken = settled.taken.to_pylist()
    assert len(settled.partial) == len(set(settled.partial.to_pylist()))
    return {
        "missing": settled.missing["doc_id"].to_pylist(),
        "taken": [(row["entry"], row["row"], row["chunk_id"]) for row in taken],
        "partial": set(settled.partial.to_pylist()),
    }


PASSAGES = st.sampled_from(["a", "ab", "abc", "bcd"])
EDITIONS = st.builds(Edition, st.sampled_from("uvwxyz"), PASSAGES)


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[Edition], list[Row]]:
    """Wanted documents, and entries with parts of these and of others, some of them twice."""
    wanted = draw(st.lists(EDITIONS, unique_by=lambda edition: edition.doc_id, max_size=6))
    known = st.sampled_from(wanted) if wanted else EDITIONS
    contents = []
    for _ in range(draw(st.integers(0, 5))):
        if contents and not draw(st.integers(0, 3)):
            contents.append(draw(st.sampled_from(contents)))  # a retried task's
            continue
        content = []
        for edition in draw(st.lists(known | EDITIONS, unique=True, max_size=4)):
            whole = st.just(edition.passages)
            part = draw(whole | st.lists(st.sampled_from(edition.passages), unique=True))
            content.append((edition, "".join(part)))
        contents.append(content)
    return wanted, draw(st.permutations(entries(*contents)))


@settings(deadline=None)
@given(ledgers())
def test_what_is_taken_is_what_the_rules_say(ledger: tuple[list[Edition], list[Row]]) -> None:
    wanted, rows = ledger
    settled = settle(wanted_of(wanted), staged_of(rows))
    assert told(settled) == oracle(wanted, rows)
    assert settled.taken.schema == NUMBERED_ROWS
    assert settled.missing.schema == wanted_of(wanted).schema


def test_a_document_that_two_entries_hold_together_is_whole() -> None:
    document = Edition("x", "abc")
    settled = settle(
        wanted_of([document]), staged_of(entries([(document, "c")], [(document, "ab")]))
    )
    assert told(settled) == {
        "missing": [],
        "taken": [(0, 0, "x/c"), (1, 0, "x/a"), (1, 1, "x/b")],
        "partial": set(),
    }


def test_a_half_staged_document_is_missing_and_its_rows_are_taken() -> None:
    half, whole = Edition("x", "abc"), Edition("y", "a")
    rows = entries([(half, "b"), (whole, "a")])
    assert told(settle(wanted_of([half, whole]), staged_of(rows))) == {
        "missing": ["x"],
        "taken": [(0, 0, "x/b"), (0, 1, "y/a")],
        "partial": {"x/b"},
    }


def test_a_retried_tasks_second_entry_is_left() -> None:
    document = Edition("x", "ab")
    rows = entries([(document, "ab")], [(document, "ab")])
    settled = settle(wanted_of([document]), staged_of(rows))
    assert settled.taken["entry"].to_pylist() == [0, 0]
    assert settled.missing.num_rows == 0


def test_chunks_of_another_edition_are_not_rows_of_the_plan() -> None:
    old, new = Edition("x", "ab"), Edition("x", "abc")
    settled = settle(wanted_of([new]), staged_of(entries([(old, "ab")], [(new, "c")])))
    assert told(settled) == {"missing": ["x"], "taken": [(1, 0, "x/c")], "partial": {"x/c"}}


def test_nothing_wanted_and_nothing_staged() -> None:
    document = Edition("x", "a")
    assert told(settle(wanted_of([]), staged_of(entries([(document, "a")]))))["taken"] == []
    assert told(settle(wanted_of([document]), staged_of([])))["missing"] == ["x"]
    assert told(settle(wanted_of([]), staged_of([])))["missing"] == []
