"""What is staged, and what is found and copied of it: real fragments, a real small table."""

import os
import time
from dataclasses import replace

import lance
import numpy as np
import pyarrow as pa
import pytest

from pipelines.corpus.buckets import by_hash
from pipelines.corpus.identity import digest
from pipelines.corpus.origin import COPIED, ENCODED, LIVE, STAGED
from pipelines.table import ledger
from pipelines.table.ledger import LOCATIONS, NUMBERED_ROWS, STAGED_ROWS, Making, Marks
from pipelines.table.place import Place
from pipelines.table.reuse import FindVectors, Known, sorted_shard
from pipelines.table.schema import Fingerprints, table_schema
from pipelines.table.snapshot import Snapshot
from pipelines.table.stage import Sink, Stage, copy_rows

DIMENSION = 4
PRINTS = Fingerprints("e1", {"weights": "w"}, "tiny", None, {"max_tokens": "48"})
SCHEMA = table_schema(DIMENSION, {"lang": pa.string()}, PRINTS)
MAKING = Making.of(PRINTS, SCHEMA)
HOUR = 3600


@pytest.fixture
def place(tmp_path):
    return Place(str(tmp_path), "chunks")


def vector_of(text, source=0):
    """Another one for each passage, and for each place that has it."""
    return [*map(float, digest(text)[:3]), float(source)]


def chunks_of(texts, source=0, origin=ENCODED):
    """One document a passage, as they leave the encoder."""
    count = len(texts)
    columns = {
        "chunk_id": [digest(text).hex() for text in texts],
        "doc_id": [f"of {text}" for text in texts],
        "ordinal": [0] * count,
        "text": texts,
        "title": [None] * count,
        "start": [0] * count,
        "end": [len(text) for text in texts],
        "text_hash": [digest(text) for text in texts],
        "doc_hash": [digest(text, "document") for text in texts],
        "tokens": [10] * count,
        "cut_tokens": [3] * count,
        "vector": [vector_of(text, source) for text in texts],
        "lang": ["en"] * count,
    }
    table = pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)
    table = table.append_column("chunks_of_document", pa.array([1] * count, pa.int32()))
    return table.append_column("origin", pa.array([origin] * count, pa.int8()))


def stage(place, texts, run="r1", making=MAKING, source=0, origin=ENCODED):
    """Stage passages as one entry; its file."""
    before = set(place.ledger.glob("*"))
    sink = Sink(place, run, SCHEMA, making, fresh=not place.exists())
    Stage(sink, lambda **_: None)(chunks_of(texts, source, origin))
    (file,) = set(place.ledger.glob("*")) - before
    return file


def read(place, *files, making=MAKING):
    return ledger.read_rows(list(enumerate(files)), making, place.data)


def test_an_entry_says_what_a_commit_needs(place):
    file = stage(place, ["one", "two", "three"])
    entry = ledger.read_entry(file)
    assert entry.marks == Marks("r1", MAKING, encoded=3, resumed=0, tokens=30, cut=9)
    assert (entry.file, entry.rows, entry.fragment.physical_rows) == (file, 3, 3)
    assert ledger.data_file(place.data, entry.fragment).is_file()
    created = lance.LanceDataset.commit(
        place.dataset, lance.LanceOperation.Overwrite(SCHEMA, [entry.fragment])
    )
    assert created.to_table()["vector"].to_pylist() == [
        vector_of(text) for text in ("one", "two", "three")
    ]


def test_only_what_the_model_computed_counts_as_encoded(place):
    resumed = ledger.read_entry(stage(place, ["one", "two"], origin=STAGED)).marks
    assert (resumed.encoded, resumed.resumed, resumed.tokens, resumed.cut) == (0, 2, 0, 0)
    copied = ledger.read_entry(stage(place, ["one"], origin=LIVE)).marks
    assert (copied.encoded, copied.resumed, copied.tokens) == (0, 0, 0)


def test_rows_without_a_vector_are_passed_on_and_not_staged(place):
    chunks = chunks_of(["one", "two"])
    without = pa.array([vector_of("one"), None], SCHEMA.field("vector").type)
    chunks = chunks.set_column(SCHEMA.get_field_index("vector"), "vector", without)
    told = {}
    left = Stage(Sink(place, "r1", SCHEMA, MAKING, True), lambda **n: told.update(n))(chunks)
    assert left["text"].to_pylist() == ["two"]
    assert not {"vector", "origin"} & set(left.column_names)
    assert told == {"staged": 1, "staged_rows": 1}
    (file,) = ledger.list_entries(place.ledger, "r1")
    assert ledger.read_entry(file).rows == 1


def test_rows_are_read_with_the_number_of_their_entry_and_their_place(place):
    files = [stage(place, ["one", "two"]), stage(place, ["three"])]
    rows, vectors = ledger.read_rows([(4, files[0]), (7, files[1])], MAKING, place.data)
    assert rows.schema == NUMBERED_ROWS
    assert vectors.schema == LOCATIONS
    assert rows.select(["doc_id", "entry", "row"]).to_pylist() == [
        {"doc_id": "of one", "entry": 4, "row": 0},
        {"doc_id": "of two", "entry": 4, "row": 1},
        {"doc_id": "of three", "entry": 7, "row": 0},
    ]
    assert rows["chunk_id"].to_pylist() == [digest(t).hex() for t in ("one", "two", "three")]
    assert rows["doc_hash"][2].as_py() == digest("three", "document")
    assert rows["chunks_of_document"].to_pylist() == [1, 1, 1]
    # The highest bit says that it is staged, the next 31 which entry, the others which row.
    places = [2**63 + 4 * 2**32, 2**63 + 4 * 2**32 + 1, 2**63 + 7 * 2**32]
    assert vectors["location"].to_pylist() == places
    assert vectors["text_hash"].to_pylist() == [digest(t) for t in ("one", "two", "three")]


def test_an_empty_ledger_has_no_rows(place):
    assert ledger.list_entries(place.ledger, "r1") == []
    rows, vectors = read(place)
    assert (rows.num_rows, vectors.num_rows) == (0, 0)
    assert (rows.schema, vectors.schema) == (NUMBERED_ROWS, LOCATIONS)


def test_another_encoders_entries_are_nothing_and_another_chunkers_are_vectors_only(place):
    other_chunker = Making.of(replace(PRINTS, chunker={"max_tokens": "64"}), SCHEMA)
    other_columns = Making.of(PRINTS, table_schema(DIMENSION, {}, PRINTS))
    other_encoder = Making.of(replace(PRINTS, encoder="e2"), SCHEMA)
    files = [
        stage(place, ["one"], making=other_encoder),
        stage(place, ["two"], making=other_chunker),
        stage(place, ["three"], making=other_columns),
        stage(place, ["four"], run="another run"),
    ]
    rows, vectors = read(place, *files)
    assert rows["doc_id"].to_pylist() == ["of four"]
    assert vectors["text_hash"].to_pylist() == [digest(t) for t in ("two", "three", "four")]
    rows, vectors = read(place, *files, making=other_encoder)
    assert rows["entry"].to_pylist() == [0]
    assert vectors["text_hash"].to_pylist() == [digest("one")]


def test_how_a_model_is_named_makes_no_difference():
    renamed = replace(PRINTS, encoder_name="elsewhere", encoder_revision="abc")
    assert Making.of(renamed, SCHEMA) == MAKING


def test_an_entry_whose_data_file_is_gone_counts_no_more(place):
    files = [stage(place, ["one"]), stage(place, ["two"])]
    ledger.data_file(place.data, ledger.read_entry(files[0]).fragment).unlink()
    rows, vectors = read(place, *files)
    assert rows["doc_id"].to_pylist() == ["of two"]
    assert vectors["text_hash"].to_pylist() == [digest("two")]


def test_entries_are_in_a_fixed_order_a_runs_own_first(place):
    files = [stage(place, ["one"], run=run) for run in ("b", "a", "c", "b", "a")]
    listed = ledger.list_entries(place.ledger, "b")
    assert {file.name[0] for file in listed[:2]} == {"b"}
    assert [file.name[0] for file in listed[2:]] == ["a", "a", "c"]
    assert listed[:2] == sorted(listed[:2])
    assert listed[2:] == sorted(listed[2:])
    assert ledger.list_entries(place.ledger, "none of them") == sorted(files)
    assert ledger.entries_of(place.ledger, "a") == sorted([files[1], files[4]])
    ledger.forget(ledger.entries_of(place.ledger, "b"))
    ledger.forget(files)  # some of them are gone
    assert ledger.list_entries(place.ledger, "") == []


def aged(file, seconds):
    then = time.time() - seconds
    os.utime(file, (then, then))
    return file


def test_entries_of_last_week_are_discarded(place):
    old = aged(stage(place, ["one"]), ledger.KEPT_SECONDS + HOUR)
    young = aged(stage(place, ["two"]), ledger.KEPT_SECONDS - HOUR)
    ledger.discard_old(place.ledger)
    assert ledger.list_entries(place.ledger, "r1") == [young]
    assert not old.exists()


def test_a_ledger_that_is_not_there_has_nothing_to_discard(place):
    ledger.discard_old(place.ledger)
    assert not place.ledger.exists()


def test_a_half_written_entry_is_never_read(place):
    whole = stage(place, ["one"])
    assert list(place.ledger.glob("*.partial")) == []
    half = place.ledger / "r1-0.partial"
    half.write_bytes(whole.read_bytes()[:100])
    assert ledger.list_entries(place.ledger, "r1") == [whole]
    assert ledger.entries_of(place.ledger, "r1") == [whole]
    ledger.discard_old(place.ledger)
    assert half.exists()  # somebody may be at it
    aged(half, ledger.KEPT_SECONDS + HOUR)
    ledger.discard_old(place.ledger)
    assert list(place.ledger.iterdir()) == [whole]


def table_of(place, *fragments):
    """A table of several fragments; the location of each of its passages."""
    for number, texts in enumerate(fragments):
        rows = chunks_of(texts, source=9).select(SCHEMA.names)
        lance.write_dataset(rows, place.dataset, mode="append" if number else "create")
    dataset = lance.dataset(place.dataset)
    found = dataset.to_table(columns=["text_hash"], with_row_address=True)
    return dataset, found.rename_columns(LOCATIONS.names).cast(LOCATIONS)


def known_of(place, snapshot, locations, files, count=3):
    """What `known` brings to a task, of locations in any order."""
    parts = by_hash(locations, count)
    shards = [sorted_shard(part) for part in parts]
    return lambda: Known(lambda n: shards[n], count, place, snapshot, files)


WANTED = ["live 1", "new", "staged 2", "live 3", "staged 1", "live 1", "staged 3", "staged 2"]
ORIGINS = [LIVE, ENCODED, STAGED, LIVE, STAGED, LIVE, STAGED, STAGED]
VECTORS = [
    vector_of("live 1", 9),
    None,
    vector_of("staged 2", 2),
    vector_of("live 3", 9),
    vector_of("staged 1", 1),
    vector_of("live 1", 9),
    vector_of("staged 3", 2),
    vector_of("staged 2", 2),
]


@pytest.fixture
def known(place):
    """Vectors in two fragments of a table that changed since, and in two entries."""
    dataset, locations = table_of(place, ["live 1", "live 2"], ["live 3", "live 4"])
    files = [
        stage(place, ["staged 1"], source=1),
        stage(place, ["staged 2", "staged 4", "staged 3"], source=2),
    ]
    _, staged = read(place, *files)
    lance.dataset(place.dataset).delete("text = 'live 3'")
    return known_of(place, Snapshot.of(dataset), pa.concat_tables([staged, locations]), files)


def wanted_of(texts):
    return chunks_of(texts).drop_columns(["vector", "origin"])


def test_vectors_are_found_in_the_version_and_in_the_ledger(known):
    chunks = wanted_of(WANTED)
    answer = FindVectors(known, pa.array([], pa.string()), DIMENSION)(chunks)
    assert answer["vector"].to_pylist() == VECTORS
    assert answer["origin"].to_pylist() == ORIGINS
    assert answer.schema.field("vector").type == SCHEMA.field("vector").type
    assert answer.drop_columns(["vector", "origin"]) == chunks


def test_what_is_staged_by_its_id_is_left_out(known):
    staged = pa.array([digest("live 1").hex(), digest("staged 2").hex()])
    answer = FindVectors(known, staged, DIMENSION)(wanted_of(WANTED))
    assert answer["text"].to_pylist() == ["new", "live 3", "staged 1", "staged 3"]
    assert answer["vector"].to_pylist() == [VECTORS[place] for place in (1, 3, 4, 6)]


def test_it_can_be_told_which_vectors_are_known_without_reading_them(known):
    nowhere = replace(known(), place=Place("/nowhere", "chunks"))
    find = FindVectors(lambda: nowhere, pa.array([], pa.string()), DIMENSION, read=False)
    answer = find(wanted_of(WANTED))
    assert answer["origin"].to_pylist() == ORIGINS
    assert answer["vector"].is_null().to_pylist() == [text == "new" for text in WANTED]


def test_vectors_of_this_runs_own_ledger_can_be_marked_as_copies(known):
    find = FindVectors(known, pa.array([], pa.string()), DIMENSION, COPIED)
    expected = [COPIED if origin == STAGED else origin for origin in ORIGINS]
    assert find(wanted_of(WANTED))["origin"].to_pylist() == expected


def test_nothing_known_and_nothing_asked(place, known):
    nothing = Known(lambda _: sorted_shard(LOCATIONS.empty_table()), 0, place, None, [])
    none = pa.array([], pa.string())
    for source, texts in ((lambda: nothing, ["one"]), (known, []), (lambda: nothing, [])):
        answer = FindVectors(source, none, DIMENSION)(wanted_of(texts))
        assert answer["origin"].to_pylist() == [ENCODED] * len(texts)
        assert answer["vector"].null_count == len(texts)
        assert answer.schema.field("vector").type == SCHEMA.field("vector").type


def test_of_equal_passages_in_several_places_one_is_taken():
    table = pa.table(
        [[digest("b"), digest("a"), digest("b")], [5, 6, 7]],
        schema=LOCATIONS,
    )
    hashes, locations = sorted_shard(table.slice(0, 2), table.slice(2))
    order = sorted([digest("a"), digest("b")])
    assert hashes.tolist() == order
    assert dict(zip(order, locations.tolist(), strict=True)) == {digest("a"): 6, digest("b"): 5}


def test_some_rows_of_an_entry_are_staged_again_without_the_others(place):
    texts = ["one", "two", "three", "four", "five"]
    entry = stage(place, texts, source=3)
    sink = Sink(place, "r2", SCHEMA, MAKING, fresh=False)
    (copy,) = copy_rows(sink, entry, [1, 2, 4])
    marks = ledger.read_entry(copy).marks
    assert (marks.run, marks.encoded, marks.resumed, marks.tokens) == ("r2", 0, 3, 0)
    rows, _ = read(place, entry, copy)
    whole, copied = (rows.filter(pa.array(rows["entry"].to_numpy() == n)) for n in (0, 1))
    assert copied.select(STAGED_ROWS.names) == whole.select(STAGED_ROWS.names).take([1, 2, 4])
    fragment = ledger.read_entry(copy).fragment
    table = lance.LanceDataset.commit(
        place.dataset, lance.LanceOperation.Overwrite(SCHEMA, [fragment])
    ).to_table()
    expected = chunks_of(texts, source=3).select(SCHEMA.names).take([1, 2, 4])
    assert table.equals(expected.replace_schema_metadata(table.schema.metadata))
    assert np.array(table["vector"].to_pylist()).shape == (3, DIMENSION)
