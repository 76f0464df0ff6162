"""Moving `live` by hand, and what clean-up leaves, on a real small table."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from pipelines.config import Keep
from pipelines.errors import InputMissing, TableHeld, UsageError
from pipelines.table.lineage import version_times
from pipelines.table.place import Place
from pipelines.table.publish import (
    live_version,
    mark_published,
    move_live,
    open_live,
    publish,
    published_versions,
    unpublish,
)
from pipelines.table.release import pending, publish_pending, roll_back
from pipelines.table.upkeep import clean_up
from pipelines.table.verdicts import (
    VersionVerdict,
    forget_verdict,
    keep_verdict,
    lift_hold,
    read_hold,
    read_verdicts,
    set_hold,
)

FOREVER = Keep(versions=10, days=7)


@pytest.fixture
def place(tmp_path):
    return Place(str(tmp_path), "chunks")


def make(place):
    """One more version, which has one more row than the one before."""
    mode = "append" if place.exists() else "create"
    number = lance.dataset(place.dataset).version + 1 if place.exists() else 1
    rows = pa.table({"chunk_id": [f"c{number}"]})
    return lance.write_dataset(rows, place.dataset, mode=mode).version


def judge(place, version, base_live, passed=True, run="r1"):
    refusals = () if passed else ("recall@10 is 0.9, below 0.95",)
    verdict = VersionVerdict(version, version, run, base_live, passed, refusals, {"recall": 0.9})
    keep_verdict(place, verdict)
    return verdict


def run_index(place, passed=True, published=True):
    """What a run leaves: a version, what was said of it, and `live` if it was published."""
    base, version = live_version(place), make(place)
    judge(place, version, base, passed, f"run of {version}")
    if published:
        publish(place, version, base)
    return version


def rows_of(place, version):
    return lance.dataset(place.dataset, version=version).count_rows()


def versions_of(place):
    return {item["version"] for item in lance.dataset(place.dataset).versions()}


def judged(place):
    return {verdict.version for verdict in read_verdicts(place)}


def test_a_published_version_is_what_readers_see(place):
    assert (live_version(place), published_versions(place)) == (None, [])
    with pytest.raises(InputMissing, match="no published version; run `tandem index`"):
        open_live(place)
    make(place)
    assert live_version(place) is None
    with pytest.raises(InputMissing):
        open_live(place)
    publish(place, 1, None)
    make(place)
    assert (live_version(place), published_versions(place)) == (1, [1])
    assert open_live(place).count_rows() == 1
    publish(place, 2, 1)
    assert (live_version(place), published_versions(place)) == (2, [1, 2])
    assert open_live(place).count_rows() == 2
    assert open_live(place, 1).count_rows() == 1


def test_nothing_is_published_over_what_another_run_published(place):
    for _ in range(3):
        make(place)
    publish(place, 1, None)
    for expected in (None, 3):
        with pytest.raises(TableHeld, match="Another run published while this one worked"):
            publish(place, 2, expected)
    assert (live_version(place), published_versions(place)) == (1, [1])


def test_to_publish_twice_does_no_harm(place):
    make(place)
    publish(place, 1, None)
    publish(place, 1, 1)
    assert (live_version(place), published_versions(place)) == (1, [1])


def test_a_way_back_without_a_version_is_to_the_one_before(place):
    for _ in range(3):
        run_index(place)
    assert roll_back(place, None) == (3, 2)
    assert (live_version(place), open_live(place).count_rows()) == (2, 2)
    assert published_versions(place) == [1, 2, 3]
    assert roll_back(place, None) == (2, 1)
    with pytest.raises(InputMissing, match="No version that was live before version 1 is kept"):
        roll_back(place, None)
    assert live_version(place) == 1


def test_the_one_before_is_one_that_was_live(place):
    run_index(place)
    run_index(place, passed=False, published=False)
    run_index(place, published=False)
    run_index(place)
    assert roll_back(place, None) == (4, 1)


def test_a_way_back_to_a_named_version_and_forth(place):
    for _ in range(4):
        run_index(place)
    assert roll_back(place, 2) == (4, 2)
    assert live_version(place) == 2
    assert roll_back(place, 4) == (2, 4)
    assert live_version(place) == 4


@pytest.mark.parametrize("version", [2, 3, 4, 99])
def test_what_was_not_live_or_is_live_now_is_refused_with_a_list(place, version):
    for _ in range(2):
        run_index(place)
    run_index(place, published=False)
    unpublish(place, run_index(place))
    run_index(place)
    move_live(place, 2)
    with pytest.raises(UsageError, match=rf"Version {version} cannot .*are kept: 1, 5\.") as error:
        roll_back(place, version)
    assert error.value.exit_code == 2
    assert (live_version(place), read_hold(place)) == (2, None)


def test_with_one_version_there_is_no_other(place):
    with pytest.raises(InputMissing, match=r"table chunks in .* has no published version"):
        roll_back(place, None)
    run_index(place)
    with pytest.raises(UsageError, match="are kept: none"):
        roll_back(place, 1)
    assert read_hold(place) is None


def test_a_rollback_sets_a_hold(place):
    start = datetime.now(UTC).replace(microsecond=0)
    for _ in range(2):
        run_index(place)
    assert read_hold(place) is None
    roll_back(place, None)
    hold = read_hold(place)
    assert (hold.from_version, hold.to_version) == (2, 1)
    assert start <= datetime.fromisoformat(hold.since) <= datetime.now(UTC)
    lift_hold(place)
    lift_hold(place)
    assert read_hold(place) is None


def test_the_hold_is_set_before_live_moves(place):
    for _ in range(3):
        run_index(place)
    # A tag whose version is gone, so that the move fails.
    tag = Path(place.dataset) / "_refs" / "tags" / "published-1.json"
    content = tag.read_bytes()
    unpublish(place, 1)
    lance.dataset(place.dataset).cleanup_old_versions(versions=[1])
    tag.write_bytes(content)
    with pytest.raises(ValueError, match="not found"):
        roll_back(place, 1)
    assert live_version(place) == 3
    assert read_hold(place).to_version == 1


def test_pending_is_the_newest_that_passed_from_what_is_live_and_never_was(place):
    run_index(place)
    assert pending(place) is None
    run_index(place, published=False)
    third = run_index(place, published=False)
    run_index(place, passed=False, published=False)
    assert pending(place).version == third
    judge(place, make(place), base_live=2)
    judge(place, make(place), base_live=None)
    assert pending(place).version == third
    assert publish_pending(place, Keep())[1].version == third
    assert live_version(place) == third
    assert pending(place) is None


def test_what_was_rolled_back_is_not_pending(place):
    for _ in range(3):
        run_index(place)
    roll_back(place, None)
    assert pending(place) is None  # version 3 was made from version 2, and was live
    hold, found = publish_pending(place, Keep())
    assert (hold.from_version, found) == (3, None)
    assert (live_version(place), read_hold(place)) == (2, None)


def test_what_was_made_before_the_rollback_is_not_pending_after_it(place):
    run_index(place)
    run_index(place)
    run_index(place, published=False)  # from version 2
    roll_back(place, None)
    assert pending(place) is None
    fourth = run_index(place, published=False)  # from version 1
    hold, found = publish_pending(place, Keep())
    assert (hold.to_version, found.version, live_version(place)) == (1, fourth, fourth)
    assert read_hold(place) is None


def test_what_a_published_version_superseded_does_not_come_back_by_a_rollback(place):
    run_index(place)
    run_index(place, published=False)  # from version 1, superseded by the next
    third = run_index(place, published=False)
    assert publish_pending(place, FOREVER)[1].version == third
    roll_back(place, None)
    hold, found = publish_pending(place, FOREVER)
    assert (hold.from_version, found, live_version(place)) == (third, None, 1)


def test_what_waited_at_the_rollback_is_not_published_by_lifting_its_hold(place):
    run_index(place)
    second = run_index(place)
    run_index(place, published=False)
    judge(place, make(place), base_live=1)  # checked, from the version that is gone back to
    roll_back(place, None)
    hold, found = publish_pending(place, FOREVER)
    assert (hold.from_version, found, live_version(place)) == (second, None, 1)


def test_a_run_that_died_before_the_own_tag_has_published_all_the_same(place):
    run_index(place)
    version = make(place)
    judge(place, version, 1)
    move_live(place, version)  # here it died
    assert (live_version(place), published_versions(place)) == (version, [1])
    mark_published(place, version)
    assert roll_back(place, None) == (version, 1)


def test_a_first_version_can_be_pending(place):
    with pytest.raises(InputMissing, match="There is no table chunks in"):
        publish_pending(place, Keep())
    run_index(place, published=False)
    hold, found = publish_pending(place, Keep())
    assert (hold, found.version, live_version(place)) == (None, 1, 1)
    assert publish_pending(place, Keep()) == (None, None)


def test_what_is_published_is_not_staged_any_more(place):
    run_index(place, published=False)
    place.ledger.mkdir(parents=True)
    entries = [place.ledger / f"{run}-0.arrow" for run in ("run of 1", "run of 2")]
    for entry in entries:
        entry.touch()
    publish_pending(place, Keep())
    assert list(place.ledger.iterdir()) == entries[1:]


def test_verdicts_come_back_as_they_were_the_newest_first(place):
    assert read_verdicts(place) == []
    kept = [judge(place, version, 1, passed=version % 2 == 0) for version in (2, 10, 9)]
    assert read_verdicts(place) == [kept[1], kept[2], kept[0]]
    again = judge(place, 9, 1, run="another")
    forget_verdict(place, 10)
    forget_verdict(place, 11)
    assert read_verdicts(place) == [again, kept[0]]


def test_clean_up_keeps_the_newest_published_versions(place):
    for _ in range(6):
        run_index(place)
    clean_up(place, Keep(versions=2, days=0))
    assert versions_of(place) == {5, 6}
    assert published_versions(place) == [5, 6]
    assert judged(place) == {5, 6}
    assert [rows_of(place, version) for version in (5, 6)] == [5, 6]
    with pytest.raises(ValueError, match="4"):
        lance.dataset(place.dataset, version=4)


def test_clean_up_keeps_all_of_the_last_days(place):
    for _ in range(6):
        run_index(place)
    clean_up(place, Keep(versions=1, days=7))
    assert versions_of(place) == {1, 2, 3, 4, 5, 6}


def test_what_is_older_than_the_last_days_goes(place):
    run_index(place)
    run_index(place)
    time.sleep(2)
    run_index(place)
    run_index(place)
    second = version_times(lance.dataset(place.dataset))[2]
    days = (datetime.now(UTC) - second - timedelta(seconds=0.1)) / timedelta(days=1)
    clean_up(place, Keep(versions=1, days=days))
    assert versions_of(place) == {3, 4}


def test_clean_up_keeps_live_wherever_it_stands(place):
    for _ in range(4):
        run_index(place)
    roll_back(place, 1)
    clean_up(place, Keep(versions=1, days=0))
    assert (live_version(place), open_live(place).count_rows()) == (1, 1)
    assert published_versions(place) == [1, 4]


def test_clean_up_keeps_the_newest_version_and_what_is_pending(place):
    run_index(place)
    refused = run_index(place, passed=False, published=False)
    waiting = run_index(place, published=False)
    stray = make(place)
    newest = make(place)
    clean_up(place, Keep(versions=1, days=0))
    assert versions_of(place) == {1, waiting, newest}
    assert judged(place) == {1, waiting}
    assert (refused, stray) == (2, 4)
    assert publish_pending(place, Keep())[1].version == waiting
    assert open_live(place).count_rows() == waiting


def test_clean_up_drops_what_passed_on_another_base(place):
    run_index(place)
    run_index(place, published=False)
    run_index(place)
    run_index(place)
    clean_up(place, FOREVER)
    assert versions_of(place) == {1, 3, 4}
    assert judged(place) == {1, 3, 4}


def test_clean_up_of_what_was_rolled_back_makes_it_no_candidate(place):
    for _ in range(3):
        run_index(place)
    roll_back(place, 1)
    # Version 2 was made from version 1, and was live; it is neither now.
    clean_up(place, Keep(versions=1, days=0))
    assert pending(place) is None


def test_only_live_leaves_nothing_else(place):
    for _ in range(3):
        run_index(place)
    run_index(place, published=False)
    roll_back(place, None)
    clean_up(place, FOREVER, only_live=True)
    newest = 4
    assert versions_of(place) == {2, newest}
    assert published_versions(place) == [2]
    assert open_live(place).count_rows() == 2


def test_a_clean_up_that_finds_nothing_changes_nothing(place):
    for _ in range(2):
        run_index(place)
    set_hold(place, 2, 1, 3)
    clean_up(place, FOREVER)
    clean_up(place, FOREVER)
    assert versions_of(place) == judged(place) == {1, 2}
    assert read_hold(place).to_version == 1
