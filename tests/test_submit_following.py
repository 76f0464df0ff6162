"""A job that is followed while connections break, clusters fall silent and signals come."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time

import pytest
from fake_dashboard import succeeds
from submitting import ROOT, small_config
from typer.testing import CliRunner

from jobs.__main__ import app
from pipelines.errors import ClusterUnreachable, TandemError
from pipelines.submission.attempts import settle
from pipelines.submission.following import Following, Limits
from pipelines.submission.job_api import JobApi

SOON = Limits(between_looks=0.01, between_words=0.05, silent=0.2, unanswered=1.0)


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path)


# What fails on the way.

LINES = "".join(f"line {number} of the log\n" for number in range(40))


def writes_slowly(job):
    for line in LINES.splitlines(keepends=True):
        job.write(line)
        time.sleep(0.01)
    job.end()


def followed(dashboard, limits=SOON):
    """A job that is started and followed: how it ended, what was written, and what was said."""
    written, said = [], []
    jobs = JobApi(dashboard.address, ROOT / "infra", "true")
    jobs.start("job")
    end = Following(jobs, "job", written.append, said.append, limits).until_end()
    return end, "".join(written), said


@pytest.mark.parametrize("cuts", [[7, 30, 31, 200], [0, None, 100], [None, None]])
def test_no_line_is_lost_or_repeated_when_connections_break_or_fall_silent(dashboard, cuts):
    dashboard.run, dashboard.cuts = writes_slowly, cuts
    end, written, _ = followed(dashboard)
    assert end.exit_code == 0
    assert written == LINES
    assert dashboard.cuts == []


def test_a_cluster_that_answers_nothing_for_a_while_is_asked_again(dashboard):
    def breaks(job):
        job.write("one\n")
        dashboard.broken, dashboard.cuts = 3, [4]
        job.write("two\n")
        job.end()

    dashboard.run = breaks
    end, written, _ = followed(dashboard, Limits(0.01, 1.0, 0.2, 20.0))
    assert (end.exit_code, written) == (0, "one\ntwo\n")
    assert dashboard.broken == 0


def test_a_cluster_that_answers_no_more_ends_it_in_bounded_time(dashboard):
    def breaks(job):
        job.write("one\n")
        dashboard.broken, dashboard.cuts = 10**9, [4]

    dashboard.run = breaks
    started = time.monotonic()
    with pytest.raises(TandemError, match="has not answered for 1 s; job may go on there"):
        followed(dashboard)
    assert 0.5 < time.monotonic() - started < 10


def test_a_cluster_that_forgot_the_job_is_told(dashboard):
    def forgets(job):
        job.write("one\n")
        dashboard.cuts = [4]
        dashboard.jobs.clear()

    dashboard.run = forgets
    with pytest.raises(TandemError, match="does not know job any more"):
        followed(dashboard)


def test_a_job_that_waits_says_so_every_so_often(dashboard):
    def waits(job):
        job.message = "Job has not\nstarted yet."
        time.sleep(0.4)
        succeeds(job)

    dashboard.run = waits
    _, written, said = followed(dashboard)
    assert written == "one\ntwo\nthree\n"
    assert set(said) == {"pending: Job has not started yet."}
    assert 2 <= len(said) <= 9


def test_a_submission_whose_answer_is_lost_is_not_made_twice(dashboard, tmp_path):
    """The second time it is there: the same as if another had submitted it."""
    jobs = JobApi(dashboard.address, tmp_path, "true")
    dashboard.lost = 1
    standing = settle(jobs, "run", lambda line: None, patience_seconds=20)
    assert (standing.name, standing.attempt) == ("run-1", 1)
    assert list(dashboard.jobs) == ["run-1"]
    assert dashboard.asked.count("POST /api/jobs/") == 2
    assert dashboard.lost == 0


def test_a_request_that_is_never_answered_ends(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(ClusterUnreachable, match=f"No Ray cluster answers at {address}"):
            JobApi(address, tmp_path, "true", timeout_seconds=(0.2, 0.2))


def test_no_cluster_at_the_address_is_a_sentence(config):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = CliRunner().invoke(app, ["submit", "--address", address, "index", str(config)])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"tandem: No Ray cluster answers at {address}; name the address of its dashboard by "
        "--address."
    )


# Signals.


@pytest.fixture
def started(dashboard, config):
    """Starts the command in a process of its own and waits until its job runs."""
    processes = []
    # What is started in the background is deaf to Ctrl-C, and so is all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(python=("-m", "jobs"), **options):
        words = [sys.executable, *python, "submit", "--address", dashboard.address, "index", config]
        process = subprocess.Popen(words, cwd=ROOT, text=True, **options)
        processes.append(process)
        while not any(asked.endswith("/tail") for asked in dashboard.asked):
            assert process.poll() is None
            time.sleep(0.01)
        return process

    yield start
    signal.signal(signal.SIGINT, before)
    for process in processes:
        process.kill()
        process.wait()


# The first terminal that the leader of a session opens is its own, whose Ctrl-C it gets.
OWN_TERMINAL = """
import os, runpy, sys
os.open(os.ttyname(0), os.O_RDWR)
sys.argv[0] = "jobs"
runpy.run_module("jobs", run_name="__main__")
"""


def goes_on_until_it_is_stopped(job):
    job.write("begun\n")
    job.stopped.wait()
    job.write("staged\n")
    job.end("STOPPED", None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_a_signal_detaches(dashboard, started, number):
    dashboard.run = goes_on_until_it_is_stopped
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = started(**pipes)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    (name,) = dashboard.jobs
    assert process.returncode == 1, said
    at = f"--address {dashboard.address} {name}"
    assert said.splitlines()[-1] == (
        f"tandem: Detached from {name}, which goes on. To follow it: ray job logs --follow {at}; "
        f"to stop it: ray job stop {at}"
    )
    assert not dashboard.jobs[name].stopped.is_set()


@pytest.mark.parametrize(
    ("answer", "stopped", "last"),
    [("stop\n", True, "was stopped"), ("\n", False, "Detached"), ("\x03", False, "Detached")],
)
@pytest.mark.timeout(60)
def test_on_a_terminal_ctrl_c_asks_and_a_second_one_detaches(
    dashboard, started, answer, stopped, last
):
    dashboard.run = goes_on_until_it_is_stopped
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = started(("-c", OWN_TERMINAL), start_new_session=True, **streams)
    os.close(theirs)
    os.write(ours, b"\x03")
    said = read_until(ours, "[detach/stop]")
    os.write(ours, answer.encode())
    said += read_until(ours, None)
    assert process.wait(timeout=30) == 1
    (end,) = [line for line in said.splitlines() if line.startswith("tandem: ")]
    assert last in end
    (job,) = dashboard.jobs.values()
    assert job.stopped.is_set() == stopped
    assert ("staged" in said.splitlines()) == stopped


def read_until(file, end):
    """What a terminal shows until some text, or until nobody writes to it any more."""
    said = ""
    while end is None or end not in said:
        try:
            said += os.read(file, 4096).decode()
        except OSError:
            break
    return said
