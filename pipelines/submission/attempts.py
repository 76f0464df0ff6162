"""The attempts of a run: which was the last, and whether the next one is due."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from pipelines.errors import ClusterUnreachable
from pipelines.submission.identity import submission_id

_FIRST_PAUSE_SECONDS = 0.5
_TOLD_PAUSE_SECONDS = 4.0
_LONGEST_PAUSE_SECONDS = 16.0

T = TypeVar("T")


@dataclass(frozen=True)
class Attempt:
    """What the cluster says of an attempt.

    Attributes:
        status: in Ray's words; the last three are ends.
        message: why, in Ray's words: of several lines, where it failed.
        exit_code: the command's own; None while it goes on, and where it never ran or was stopped.
        seconds: from its submission to its end; None while it goes on.
    """

    status: Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
    message: str = ""
    exit_code: int | None = None
    seconds: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status not in ("PENDING", "RUNNING")

    @property
    def failed(self) -> bool:
        """Whether another attempt is due."""
        return self.status in ("FAILED", "STOPPED")


class Jobs(Protocol):
    """The jobs of a cluster; each call may raise ClusterUnreachable."""

    def find(self, submission_id: str) -> Attempt | None:
        """An attempt, None where the cluster knows none of this id."""

    def start(self, submission_id: str) -> bool:
        """Start an attempt; False if there is one of this id."""

    def stop(self, submission_id: str) -> None:
        """Ask an attempt to end."""

    def logs(self, submission_id: str) -> str:
        """What an attempt has written so far."""

    def tail(self, submission_id: str) -> AsyncGenerator[str, None]:
        """What an attempt has written, from its start, and what it goes on to write."""


@dataclass(frozen=True)
class Standing:
    """Where a run stands once it was submitted.

    Attributes:
        name: the id of its last attempt.
        attempt: the number of that.
        before: what the cluster said of it before it was submitted again; None: this submission
            started it.
    """

    name: str
    attempt: int
    before: Attempt | None


def settle(jobs: Jobs, run: str, say: Callable[[str], None], patience_seconds: float) -> Standing:
    """Start the next attempt of a run, unless the last one goes on or has succeeded.

    Of several that submit the same at once, one starts it; the others are told of that attempt.

    Raises:
        ClusterUnreachable: the cluster did not answer for that long.
    """

    def find(name: str) -> Attempt | None:
        return patiently(lambda: jobs.find(name), say, patience_seconds)

    number, last = 0, None
    while (found := find(submission_id(run, number + 1))) is not None:
        number, last = number + 1, found
    if last is not None and not last.failed:
        return Standing(submission_id(run, number), number, last)
    name = submission_id(run, number + 1)
    started = patiently(lambda: jobs.start(name), say, patience_seconds)
    return Standing(name, number + 1, None if started else find(name))


def patiently(call: Callable[[], T], say: Callable[[str], None], patience_seconds: float) -> T:
    """What a call returns, tried again for so long while the cluster does not answer.

    Raises:
        ClusterUnreachable: it did not answer all the while.
    """
    deadline = time.monotonic() + patience_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except ClusterUnreachable as error:
            if time.monotonic() + pause > deadline:
                raise
            # A moment is no news.
            if pause == _TOLD_PAUSE_SECONDS:
                say(f"{error} It is asked again for {patience_seconds:.0f} s.")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
