"""Deaths at every step: after a re-run the table is what the corpus makes, and readers saw nothing.

The command runs in a process of its own and is killed; the re-run takes what it left. The oracle
is plain Python over the documents.
"""

import shutil

import pytest
from deaths import NEW, NEXT, OLD, SETTINGS, ended, passages, staged_passages, start
from fake_models import fake_models
from readers import require_table, watched
from running import configured, newest_version, run_index, write_config, write_jsonl

from pipelines.table.place import Place
from pipelines.table.verdicts import read_verdicts

pytestmark = pytest.mark.usefixtures("cluster")
POINTS = {
    "reading": {"at": "pipelines.planning:require_fields"},
    "encoding": {"ledger": 1},
    "after staging": {"at": "pipelines.indexing:_stage_missing", "when": "after"},
    "before the commit": {"at": "pipelines.committing:commit"},
    "after the commit": {"at": "pipelines.committing:commit", "when": "after"},
    "before compaction": {"at": "lance.optimize:Compaction.commit"},
    "after compaction": {"at": "lance.optimize:Compaction.commit", "when": "after"},
    "in the index build": {"at": "pipelines.table.vector_index:choose_index"},
    "before the tags": {"at": "pipelines.finishing:publish"},
    "between the tags": {"at": "pipelines.table.publish:move_live"},
    "after the tags": {"at": "pipelines.finishing:publish", "when": "after"},
    "in clean-up": {"at": "lance:LanceDataset.cleanup_old_versions", "when": "after"},
}
COMMITTED = list(POINTS)[4:10]


# Those that differ least from a neighbour belong to the long form.
LONG = {
    "reading",
    "after staging",
    "before compaction",
    "after compaction",
    "before the tags",
    "between the tags",
    "after the tags",
    "in clean-up",
    "in the index build",
    "before the commit",
}


@pytest.mark.parametrize(
    "point",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in POINTS],
)
def test_a_run_that_was_killed_is_finished_by_the_next(
    cluster, published, described, small_encoder, tmp_path, point
):
    # Every other case finds another corpus when it runs again.
    again = NEXT if list(POINTS).index(point) % 2 else NEW
    shutil.copytree(published, tmp_path / "index")
    config = write_config(tmp_path, small_encoder, **SETTINGS)
    write_jsonl(tmp_path / "corpus.jsonl", NEW)
    place = Place.of(configured(tmp_path, small_encoder).table)
    plan = {"fake": described, "folder": str(place.ledger)} | POINTS[point]
    with watched(tmp_path, OLD, NEW, again):
        # Between its first block and its last a run has time to die, however busy the machine is.
        seconds = "3" if point == "encoding" else "0.3"
        code, said = ended(start(cluster, plan, "index", config, FAKE_SECONDS=seconds))
        assert code == -9, said
        staged = staged_passages(place)
        died_at = newest_version(tmp_path)
        write_jsonl(tmp_path / "corpus.jsonl", again)
        summary = run_index(configured(tmp_path, small_encoder, **SETTINGS), fake_models())
    require_table(tmp_path, again)
    assert summary.live == newest_version(tmp_path)
    published_then = NEW if point in ("after the tags", "in clean-up") else OLD
    unknown = passages(again) - passages(published_then) - staged
    if point == "encoding":
        assert 0 < len(staged) < len(passages(NEW) - passages(OLD))
        # Workers that outlive their driver for a moment stage what they have in hand.
        assert summary.encoded <= len(unknown)
    else:
        assert summary.encoded == len(unknown)
    if point in COMMITTED and again is NEW:
        # It went on with the version that was committed: what followed changed no row.
        assert read_verdicts(place)[0].data_version <= died_at
    same = run_index(configured(tmp_path, small_encoder, **SETTINGS), fake_models())
    assert (same.version, same.encoded) == (summary.version, 0)
