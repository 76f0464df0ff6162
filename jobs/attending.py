"""A job that was submitted: followed, stopped or left alone, and what its end means here."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from pipelines.errors import Interrupted, TandemError
from pipelines.submission.attempts import Attempt, Jobs, Standing
from pipelines.submission.following import Following


@dataclass
class SubmitSummary:
    """Which job it is and how it ended; `status` is Ray's word, `seconds` are the job's own."""

    submission_id: str | None = None
    attempt: int | None = None
    address: str | None = None
    status: str | None = None
    exit_code: int | None = None
    seconds: float | None = None
    error: str | None = None


def attend(
    jobs: Jobs, standing: Standing, summary: SubmitSummary, say: Callable[[str], None], detach: bool
) -> None:
    """Follow a job to its end, unless it is to be left alone or ended long ago.

    Raises:
        Interrupted: a signal came, and the job was left alone.
        TandemError: the job ended without an exit code of the command's own.
    """
    name, before = standing.name, standing.before
    summary.submission_id, summary.attempt = name, standing.attempt
    _record(summary, before or Attempt("PENDING"))
    following = Following(jobs, name, _write, say)
    if before is None:
        say(f"{name} was submitted to {summary.address}.")
    elif before.status == "SUCCEEDED":
        say(f"{name} was submitted before and succeeded; nothing is run. The end of its log:")
        _write(following.last_lines())
        return
    else:
        say(f"{name} was submitted before: {before.status.lower()}.")
    if detach:
        say(_how_to_go_on(summary))
        return
    attempt = _followed(following, jobs, summary, say)
    _record(summary, attempt)
    _require_exit_code(name, attempt)


def _followed(
    following: Following, jobs: Jobs, summary: SubmitSummary, say: Callable[[str], None]
) -> Attempt:
    """The end of a job; a signal detaches from it, or on a terminal asks whether to stop it."""
    name = summary.submission_id or ""
    detached = Interrupted(f"Detached from {name}, which goes on. {_how_to_go_on(summary)}")
    with _sigterm_as_ctrl_c():
        try:
            try:
                return following.until_end()
            except KeyboardInterrupt:
                if not _to_be_stopped():
                    raise
            jobs.stop(name)
            say(f"{name} is stopped: what is in flight is staged, then it ends.")
            return following.until_end()
        except KeyboardInterrupt:
            raise detached from None


def _to_be_stopped() -> bool:
    """Ask, on a terminal, what to do with the job; without one it is left alone."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    while True:
        typer.echo("\nDetach and let the job go on, or stop it? [detach/stop] ", nl=False, err=True)
        try:
            answer = sys.stdin.readline().strip().lower()
        except KeyboardInterrupt:
            typer.echo(err=True)  # the terminal is left behind what it shows of the key
            raise
        if answer in ("stop", "s"):
            return True
        if answer in ("detach", "d", ""):
            return False


def _how_to_go_on(summary: SubmitSummary) -> str:
    job = f"--address {summary.address} {summary.submission_id}"
    return f"To follow it: ray job logs --follow {job}; to stop it: ray job stop {job}"


def _require_exit_code(name: str, attempt: Attempt) -> None:
    """Tell of an end that is not the command's own.

    Raises:
        TandemError: it was stopped, killed, or never ran.
    """
    code = attempt.exit_code
    if attempt.status == "STOPPED":
        raise TandemError(f"{name} was stopped; submitted again it goes on from what is staged.")
    if code is not None and code < 0:
        raise TandemError(
            f"{name} was ended by {signal.Signals(-code).name}; submitted again it goes on from "
            "what is staged."
        )
    if attempt.failed and not code:
        raise TandemError(f"{name} failed: {' '.join(attempt.message.split())}")


def _record(summary: SubmitSummary, attempt: Attempt) -> None:
    summary.status, summary.seconds = attempt.status, attempt.seconds
    own = attempt.exit_code is not None and attempt.exit_code >= 0
    summary.exit_code = attempt.exit_code if own else None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM detach as Ctrl-C does; signals reach the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
