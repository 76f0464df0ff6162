"""What has to change, against the same rules in plain Python."""

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.identity import digest
from pipelines.corpus.inventory import FIELDS_SEEN, KEYS
from pipelines.corpus.plan import (
    DocumentPlan,
    Facts,
    make_plan,
    plan_deletions,
    require_fields,
)
from pipelines.corpus.read.rows import Mapped
from pipelines.errors import UsageError


@dataclass(frozen=True)
class Row:
    """A row of the corpus: a document if it has content, else a reject."""

    piece: int
    position: int
    doc_id: str | None
    content: str | None
    kind: str = "int"


def keys_of(rows: list[Row]) -> pa.Table:
    values = [
        {
            "piece": row.piece,
            "position": row.position,
            "doc_id": row.doc_id,
            "doc_hash": row.content and digest(row.content),
            "kinds": row.content and row.kind,
            "reason": None if row.content else "empty_text",
            "message": None if row.content else "The text is empty.",
        }
        for row in rows
    ]
    marks = [
        {"piece": piece, "position": -1, "reason": FIELDS_SEEN, "message": "id\ttext"}
        for piece in {row.piece for row in rows} | {9}
    ]
    return pa.Table.from_pylist([*marks, *values], KEYS)


def live_of(documents: dict[str, str]) -> pa.Table:
    hashes = pa.array([digest(content) for content in documents.values()], pa.binary(16))
    return pa.table({"doc_id": pa.array(list(documents), pa.string()), "doc_hash": hashes})


def plan_of(rows: list[Row], live: dict[str, str], hold: bool = True) -> DocumentPlan:
    blind = hold and Facts.of(keys_of(rows)).nameless
    return make_plan(keys_of(rows), live_of(live), {"n": pa.int64()}, "held" if blind else "go")


def oracle(rows: list[Row], live: dict[str, str], hold: bool) -> dict[str, object]:
    """The rules of the design, one after the other."""
    rejects: set[tuple[int, int, str | None, str]] = set()
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.piece, row.position)):
        if row.content is None:
            rejects.add((row.piece, row.position, row.doc_id, "empty_text"))
        elif row.kind not in ("int", "null"):
            rejects.add((row.piece, row.position, row.doc_id, "metadata_type"))
        else:
            assert row.doc_id is not None
            groups[row.doc_id].append(row)
    kept = {}
    duplicates = 0
    for doc_id, group in groups.items():
        if len({row.content for row in group}) == 1:
            kept[doc_id] = group[0]
            duplicates += len(group) - 1
        else:
            rejects |= {(row.piece, row.position, row.doc_id, "doubled_id") for row in group}
    new = {doc_id for doc_id in kept if doc_id not in live}
    changed = {doc_id for doc_id in kept if doc_id in live and live[doc_id] != kept[doc_id].content}
    absent = set(live) - set(kept) - {doc_id for _, _, doc_id, _ in rejects}
    held = hold and any(doc_id is None for _, _, doc_id, _ in rejects)
    return {
        "kept": {(row.piece, row.position, row.doc_id) for row in kept.values()},
        "wanted": {(kept[doc_id].piece, kept[doc_id].position, doc_id) for doc_id in new | changed},
        "changed": changed,
        "gone": set() if held else absent,
        "unchanged": len(kept) - len(new) - len(changed),
        "duplicates": duplicates,
        "held": len(absent) if held else 0,
        "rejects": rejects,
    }


def told(plan: DocumentPlan) -> dict[str, object]:
    def places(table: pa.Table) -> set[tuple[int, int, str]]:
        return {(row["piece"], row["position"], row["doc_id"]) for row in table.to_pylist()}

    rejects = plan.rejects.to_pylist()
    return {
        "kept": places(plan.kept),
        "wanted": places(plan.wanted),
        "changed": set(plan.changed.to_pylist()),
        "gone": set(plan.gone.to_pylist()),
        "unchanged": plan.unchanged,
        "duplicates": plan.duplicates,
        "held": plan.absent,
        "rejects": {(r["piece"], r["position"], r["doc_id"], r["reason"]) for r in rejects},
    }


IDS = st.sampled_from("abcdefg")
CONTENTS = st.sampled_from(["one", "two"])


@st.composite
def corpora(draw: st.DrawFn) -> list[Row]:
    places = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), unique=True, max_size=16)
    )
    rows = []
    for piece, position in places:
        kind = draw(st.sampled_from(["int"] * 6 + ["null", "string", "other"]))
        if draw(st.integers(0, 5)):
            rows.append(Row(piece, position, draw(IDS), draw(CONTENTS), kind))
        else:
            rows.append(Row(piece, position, draw(IDS | st.none()), None))
    return rows


@settings(deadline=None)
@given(corpora(), st.dictionaries(IDS, CONTENTS), st.booleans())
def test_a_plan_is_what_the_rules_say(rows: list[Row], live: dict[str, str], hold: bool) -> None:
    plan = plan_of(rows, live, hold)
    assert told(plan) == oracle(rows, live, hold)
    assert plan.rows == len(rows)
    new = plan.wanted.num_rows - len(plan.changed)
    settled = plan.unchanged + plan.duplicates + plan.rejects.num_rows
    assert plan.rows == new + len(plan.changed) + settled
    hashes = dict(
        zip(*(plan.kept[name].to_pylist() for name in ("doc_id", "doc_hash")), strict=True)
    )
    contents = {(row.piece, row.position): row.content for row in rows}
    for row in plan.kept.to_pylist():
        content = contents[row["piece"], row["position"]]
        assert content is not None
        assert hashes[row["doc_id"]] == digest(content)
    assert all(plan.rejects["message"].to_pylist())


def test_a_first_run_and_an_empty_corpus() -> None:
    plan = plan_of([Row(0, 0, "a", "one")], {})
    assert (plan.wanted["doc_id"].to_pylist(), len(plan.changed), len(plan.gone)) == (["a"], 0, 0)
    plan = plan_of([], {"a": "one"})
    assert (plan.rows, plan.gone.to_pylist(), plan.absent) == (0, ["a"], 0)
    assert plan_of([], {}).wanted.num_rows == 0


def test_of_equal_rows_the_first_by_place_is_kept() -> None:
    rows = [Row(2, 1, "a", "one"), Row(1, 9, "a", "one"), Row(1, 30, "a", "one")]
    plan = plan_of(rows, {})
    assert (plan.kept["piece"].to_pylist(), plan.kept["position"].to_pylist()) == ([1], [9])
    assert plan.duplicates == 2


def test_a_rejected_row_leaves_its_live_document_alone() -> None:
    live = {"a": "one", "b": "one", "c": "one", "d": "one"}
    rows = [
        Row(0, 0, "a", None),
        Row(0, 1, "b", "x", "string"),
        Row(0, 2, "c", "x"),
        Row(0, 3, "c", "y"),
    ]
    plan = plan_of(rows, live)
    assert plan.gone.to_pylist() == ["d"]
    assert plan.wanted.num_rows == 0
    assert sorted(plan.rejects["reason"].to_pylist()) == [
        "doubled_id",
        "doubled_id",
        "empty_text",
        "metadata_type",
    ]


def test_a_reject_without_an_id_holds_deletions_unless_told_otherwise() -> None:
    rows = [Row(0, 0, None, None), Row(0, 1, "a", "two")]
    live = {"a": "one", "b": "one", "c": "one"}
    held = plan_of(rows, live)
    assert (len(held.gone), held.absent, held.changed.to_pylist()) == (0, 2, ["a"])
    free = plan_of(rows, live, hold=False)
    assert (sorted(free.gone.to_pylist()), free.absent) == (["b", "c"], 0)


def test_a_value_that_does_not_fit_is_a_reject() -> None:
    rows = [
        Row(0, 0, "a", "x", "int,string"),
        Row(0, 1, "b", "x", "float,null"),
        Row(0, 2, "c", "x", "null,null"),
        Row(0, 3, "d", "x", "int,bool"),
        Row(0, 4, "e", "x", "other,string"),
    ]
    types = {"n": pa.float64(), "s": pa.string()}
    plan = make_plan(keys_of(rows), live_of({}), types, "go")
    assert plan.kept["doc_id"].to_pylist() == ["a", "b", "c"]
    assert plan.rejects["doc_id"].to_pylist() == ["d", "e"]
    assert set(plan.rejects["reason"].to_pylist()) == {"metadata_type"}


def test_a_corpus_without_metadata() -> None:
    rows = [Row(0, 0, "a", "x", "")]
    assert make_plan(keys_of(rows), live_of({}), {}, "go").kept.num_rows == 1
    assert Facts.of(keys_of(rows)).signatures == {"": 1}


def test_signatures_count_documents_only() -> None:
    rows = [Row(0, n, str(n), "x" if n else None, "int" if n < 4 else "null") for n in range(6)]
    facts = Facts.of(keys_of(rows))
    assert facts.signatures == {"int": 3, "null": 2}
    assert (facts.rows, facts.nameless) == (6, 0)


def test_a_part_of_a_corpus_removes_nothing() -> None:
    live = live_of({"a": "one", "b": "one"})
    plan = make_plan(keys_of([Row(0, 0, "a", "two")]), live, {"n": pa.int64()}, "stay")
    assert (plan.changed.to_pylist(), len(plan.gone), plan.absent) == (["a"], 0, 1)


def test_listed_documents_go_and_nothing_else() -> None:
    listed = pa.array(["b", "unknown"])
    plan = plan_deletions(live_of({"a": "one", "b": "one"}), listed)
    assert (plan.gone.to_pylist(), plan.wanted.num_rows, plan.rows) == (["b"], 0, 0)


def test_a_mapped_column_that_no_row_has() -> None:
    seen = Facts.of(keys_of([Row(0, 0, "a", "x")])).fields
    assert seen == {"id", "text"}
    require_fields(seen, Mapped("id", "text", "no such title", (), 9))
    for mapped, message in (
        (Mapped("_id", "text", "title", (), 9), "corpus.id names '_id', a column that no row has"),
        (Mapped("id", "body", "title", (), 9), "corpus.text names 'body'"),
        (Mapped("id", "text", "title", ("year",), 9), "corpus.metadata names 'year'.*id, text"),
    ):
        with pytest.raises(UsageError, match=message):
            require_fields(seen, mapped)
