"""Readers who look at a table all the time, and the plain oracle that they compare it with."""

import threading
import time
from contextlib import contextmanager

import numpy as np
from fake_models import vector_of
from running import live_table, place_of

from pipelines.corpus.identity import chunk_ids, passage


def oracle(documents, seed=0):
    """What the table must hold of short documents: by chunk id, text, language and vector."""
    rows = {}
    for row in documents:
        text = passage(row["title"], row["text"])
        (chunk_id,) = chunk_ids(row["id"], [text])
        rows[chunk_id] = (row["id"], row["text"], row.get("lang"), vector_of(text, seed))
    return rows


def require_table(where, documents, seed=0):
    """Check that `live` holds exactly the documents, each once, with their own vectors."""
    expected = oracle(documents, seed)
    rows = live_table(where).to_arrow().to_pylist()
    assert len(rows) == len(expected)
    for row in rows:
        doc_id, text, lang, vector = expected[row["chunk_id"]]
        assert (row["doc_id"], row["text"]) == (doc_id, text)
        assert row.get("lang", lang) == lang
        np.testing.assert_allclose(row["vector"], vector, atol=1e-6)
    require_readable(where)


def require_readable(where):
    """Check that the live version is indexed and that its checks passed."""
    dataset = place_of(where).open("live")
    assert {"chunk_id", "doc_id"} <= indexed(dataset)
    assert checked(where, dataset.version)


def indexed(dataset):
    """The columns of a version that have an index."""
    return {name for index in dataset.describe_indices() for name in index.field_names}


def checked(where, version: int) -> bool:
    """Whether the checks of a version passed."""
    verdict = place_of(where).verdicts / f"{version}.json"
    return verdict.is_file() and '"passed": true' in verdict.read_text()


def signature(documents):
    """The contents of a version, to tell it from another one."""
    return frozenset((row["id"], row["text"]) for row in documents)


@contextmanager
def watched(where, *editions):
    """Look at `live` and at the newest version while the block runs.

    Each must hold exactly one of the editions of the corpus, and `live` must be indexed and
    checked. Gives a list to which faults are added, which must be empty at the end.
    """
    allowed = {signature(edition) for edition in editions}
    faults: list[str] = []
    looks = [0]
    stopped = threading.Event()

    def look(version):
        dataset = place_of(where).open(version)
        rows = dataset.to_table(columns=["doc_id", "text"]).to_pylist()
        found = [(row["doc_id"], row["text"]) for row in rows]
        if len(found) != len(set(found)) or (found and frozenset(found) not in allowed):
            faults.append(f"version {dataset.version}: {len(found)} rows of no edition")
        return dataset

    def loop():
        while not stopped.is_set():
            try:
                look(None)
            except (OSError, ValueError) as error:
                # Not live: what is newest may be cleaned up between its opening and its reading.
                if "not found" not in str(error).lower():
                    faults.append(str(error))
            try:
                dataset = look("live")
                fields = {
                    name for index in dataset.describe_indices() for name in index.field_names
                }
                if not {"chunk_id", "doc_id"} <= fields:
                    faults.append(f"version {dataset.version} is live without its indices")
                if not checked(where, dataset.version) and look("live").version == dataset.version:
                    faults.append(f"version {dataset.version} is live and was not checked")
                looks[0] += 1
            except Exception as error:  # noqa: BLE001 - whatever a reader meets is a fault
                faults.append(f"live: {error}")
            time.sleep(0.01)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield faults
    finally:
        stopped.set()
        thread.join()
    assert faults == []
    assert looks[0] > 0
