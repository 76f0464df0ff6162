"""Who may work on a table: real threads and processes, with short beats."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipelines.errors import TableHeld
from pipelines.table import lease
from pipelines.table.lease import Holder, leased, read_holder

ELSEWHERE = Holder("far", "elsewhere", 7, "another machine", 1, "2026-01-02T03:04:05+00:00")


def whole_files(folder):
    """The names of what is there, but for what is being written."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".partial")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "_tandem" / "chunks" / "lease"


@pytest.fixture
def beat(monkeypatch):
    """The length of a beat, long enough for a busy machine; a holder is dead after three."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.5)
    return 0.5


@pytest.fixture
def short_beat(monkeypatch):
    """For where nobody else is to be heard."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    return 0.1


def write_holder(folder, holder):
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / "aside"
    aside.write_text(json.dumps(asdict(holder)), encoding="utf-8")
    aside.replace(folder / "holder.json")


@contextlib.contextmanager
def beating(folder, run, seconds):
    """Beats of a holder that is on another machine."""
    stopped = threading.Event()

    def loop():
        beats = 0
        while not stopped.wait(seconds):
            beats += 1
            (folder / f"{run}.beat").write_text(str(beats))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def started(script, *words):
    """A process that runs a script which has `leased`, `Holder` and its words."""
    opening = (
        "import json, sys\n"
        "from dataclasses import asdict\n"
        "from pathlib import Path\n"
        "from pipelines.errors import TableHeld\n"
        "from pipelines.table import lease\n"
        "from pipelines.table.lease import Holder, leased\n"
        "lease.BEAT_SECONDS = 0.1\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", opening + script, *map(str, words)],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def compete(folder, names):
    """Threads that want the lease at once; who got it. It holds until all others gave up."""
    start, over = threading.Barrier(len(names)), threading.Semaphore(0)

    def attempt(run):
        start.wait()
        try:
            with leased(folder, run):
                for _ in names[1:]:
                    assert over.acquire(timeout=20)
                return run
        except TableHeld as error:
            return error
        finally:
            over.release()

    with ThreadPoolExecutor(len(names)) as threads:
        answers = list(threads.map(attempt, names))
    winners = [answer for answer in answers if isinstance(answer, str)]
    assert len(winners) == 1, answers
    others = [answer for answer in answers if answer != winners[0]]
    return winners[0], others


def test_of_several_who_come_at_once_one_holds(folder, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 1.0)
    for turn in range(2):
        names = [f"r{turn}{n}" for n in range(4)]
        winner, refused = compete(folder, names)
        assert len(refused) == 3
        assert all(f"held by run {winner} (process " in str(error) for error in refused)


def test_who_meets_a_holder_is_told_within_about_a_beat(folder, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 1.0)
    with leased(folder, "first"):
        came = time.monotonic()
        with pytest.raises(TableHeld) as error, leased(folder, "second"):
            pass
        # To watch for all three beats would take longer.
        assert time.monotonic() - came < 3
        holder = read_holder(folder)
        assert str(error.value) == f"The table is held by {holder}; wait for it, or give --wait."
        assert str(holder).startswith("run first (process ")
        assert error.value.exit_code == 4
        assert not list(folder.glob("second.*"))


def test_who_waits_gets_it_when_it_is_released(folder, beat):
    said, events = [], []

    def second():
        with leased(folder, "second", wait=True, say=said.append):
            events.append("second has it")

    with leased(folder, "first"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(3 * beat)
        assert events == []
        assert read_holder(folder).run == "first"
        events.append("first is done")
    thread.join(20)
    assert events == ["first is done", "second has it"]
    (told,) = said
    assert told.startswith("Waiting for run first (process ")


def test_a_holder_elsewhere_that_does_not_beat_is_taken_over(folder, short_beat):
    write_holder(folder, ELSEWHERE)
    (folder / "far.beat").write_text("17")
    said, came = [], time.monotonic()
    with leased(folder, "mine", say=said.append) as mine:
        assert time.monotonic() - came >= 3 * short_beat
        mine.require()
        assert read_holder(folder).run == "mine"
        assert not list(folder.glob("far.*"))
    assert said == [
        "Took over from run far (process 7 on elsewhere, since 2026-01-02T03:04:05+00:00), "
        "which is no more."
    ]


def test_a_holder_elsewhere_that_beats_is_not(folder, beat):
    write_holder(folder, ELSEWHERE)
    with (
        beating(folder, "far", beat / 2),
        pytest.raises(TableHeld, match=r"held by run far \(process 7 on elsewhere"),
        leased(folder, "mine"),
    ):
        pass
    assert read_holder(folder) == ELSEWHERE


def answer_of(folder, run):
    """Start a thread that wants the lease; what will come of it."""
    threads = ThreadPoolExecutor(1)

    def attempt():
        with leased(folder, run):
            return read_holder(folder).run

    answer = threads.submit(attempt)
    threads.shutdown(wait=False)
    return answer


def test_who_watched_a_holder_that_was_taken_over_is_told_of_the_new_one(folder, beat):
    write_holder(folder, ELSEWHERE)
    answer = answer_of(folder, "mine")
    time.sleep(beat)
    write_holder(folder, replace(ELSEWHERE, run="near"))
    with (
        beating(folder, "near", beat / 2),
        pytest.raises(TableHeld, match=r"held by run near "),
    ):
        answer.result(20)


def test_who_comes_while_the_holder_lets_go_gets_it(folder, beat):
    write_holder(folder, ELSEWHERE)
    answer = answer_of(folder, "mine")
    time.sleep(beat)
    (folder / "holder.json").unlink()
    assert answer.result(20) == "mine"


def test_of_several_who_watch_the_same_death_one_takes_over(folder, beat):
    write_holder(folder, ELSEWHERE)
    _, refused = compete(folder, [f"r{n}" for n in range(4)])
    assert len(refused) == 3
    assert list(folder.iterdir()) == []


def test_of_several_who_find_a_dead_process_one_takes_over(folder, beat):
    for turn in range(10):
        write_holder(folder, replace(Holder.here(f"gone{turn}"), started=1))
        _, refused = compete(folder, [f"r{turn}{n}" for n in range(8)])
        assert len(refused) == 7
        assert list(folder.iterdir()) == []


def test_a_winner_that_died_before_it_took_the_place_is_outlived(folder, short_beat):
    write_holder(folder, ELSEWHERE)
    (folder / "far.0.taken").touch()
    with leased(folder, "mine") as mine:
        mine.require()
        assert read_holder(folder).run == "mine"
    assert list(folder.iterdir()) == []


def test_a_process_of_this_machine_that_ended_is_taken_over_at_once(folder):
    process = started("print(json.dumps(asdict(Holder.here('ended'))))")
    told, _ = process.communicate(timeout=60)
    ended = Holder(**json.loads(told))
    assert (ended.process, ended.machine) == (process.pid, Holder.here("mine").machine)
    assert ended.died_here()
    write_holder(folder, ended)
    came = time.monotonic()
    with leased(folder, "mine"):
        # Three beats are six seconds.
        assert time.monotonic() - came < 6


def test_another_process_under_the_number_of_a_dead_one_does_not_hold(folder):
    mine = Holder.here("gone")
    assert not mine.died_here()
    assert not replace(mine, process=1, machine="another machine").died_here()
    reused = replace(mine, started=mine.started - 1)
    assert reused.died_here()
    write_holder(folder, reused)
    came = time.monotonic()
    with leased(folder, "mine"):
        assert time.monotonic() - came < 6


HOLD = """
try:
    with leased(Path(sys.argv[1]), "other") as held:
        print("holds", flush=True)
        sys.stdin.readline()
        held.require()
        print("still holds", flush=True)
except TableHeld as error:
    print(error, flush=True)
"""


def test_a_process_that_was_killed_is_taken_over_at_once(folder):
    process = started(HOLD, folder)
    assert process.stdout.readline() == "holds\n"
    process.kill()
    # It has ended, and as nobody asked how, it still has its number.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    came = time.monotonic()
    with leased(folder, "mine"):
        assert time.monotonic() - came < 6
    process.communicate(timeout=60)


def test_who_slept_and_was_taken_over_does_not_disturb_its_successor(folder, short_beat):
    process = started(HOLD, folder)
    assert process.stdout.readline() == "holds\n"
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    with leased(folder, "mine") as mine:
        successor = read_holder(folder)
        process.send_signal(signal.SIGCONT)
        time.sleep(5 * short_beat)
        counts = []
        for _ in range(2):
            counts.append([path.read_text() for path in folder.glob("other.*")])
            time.sleep(3 * short_beat)
        assert counts[0] == counts[1]  # it beats no more
        mine.require()
        told, _ = process.communicate("go on\n", timeout=60)
        assert told == (
            f"This run lost its lease: {successor} works on the table now. Run the command again.\n"
        )
        assert read_holder(folder) == successor
        mine.require()
        assert whole_files(folder) == ["holder.json", "mine.beat"]
    assert process.returncode == 0


def test_who_lost_the_lease_stops_beating_and_may_not_go_on(folder, short_beat):
    with leased(folder, "mine") as mine:
        while not (folder / "mine.beat").exists():
            time.sleep(short_beat)
        write_holder(folder, ELSEWHERE)
        time.sleep(5 * short_beat)
        before = (folder / "mine.beat").read_text()
        time.sleep(5 * short_beat)
        assert (folder / "mine.beat").read_text() == before
        with pytest.raises(TableHeld, match=r"lost its lease: run far \(process 7 on elsewhere"):
            mine.require()
    assert read_holder(folder) == ELSEWHERE
    assert [path.name for path in folder.iterdir()] == ["holder.json"]


def test_who_lost_it_does_not_go_on_when_nobody_holds_it_any_more(folder, short_beat):
    with leased(folder, "mine") as mine:
        (folder / "holder.json").unlink()
        with pytest.raises(TableHeld, match=r"This run lost its lease\. Run the command again\."):
            mine.require()


def test_a_run_that_wrote_nothing_leaves_no_folder(folder, tmp_path, short_beat):
    with leased(folder, "mine"):
        assert read_holder(folder).run == "mine"
    assert list(tmp_path.iterdir()) == []


def test_a_lease_goes_with_an_error_too(folder, tmp_path, short_beat):
    with pytest.raises(KeyError), leased(folder, "mine"):
        raise KeyError("x")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_or_is_written_stays(folder, tmp_path, short_beat):
    (tmp_path / "_tandem").mkdir()
    with leased(folder, "mine"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "_tandem"]
    with leased(folder, "mine"):
        (folder.parent / "hold.json").touch()
    kept = [folder.parent.parent, folder.parent, folder.parent / "hold.json"]
    assert sorted(tmp_path.rglob("*")) == kept
