"""Following a job: its log as it comes, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipelines.errors import ClusterUnreachable, TandemError
from pipelines.submission.attempts import Attempt, Jobs, patiently

_LINES_OF_THE_END = 20

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """How long what may take, in seconds.

    Attributes:
        between_looks: from one look at a job to the next.
        between_words: from one line about a job that waits to the next.
        silent: without a word of a job its log is opened anew: its connection may be dead.
        unanswered: while the cluster does not answer it is asked again.
    """

    between_looks: float = 1.0
    between_words: float = 15.0
    silent: float = 60.0
    unanswered: float = 300.0


class Following:
    """Writes the log of a job as it comes, each of its characters once, whatever connection fails.

    A log is always sent from its start; what was written of it is counted and left out.
    """

    def __init__(
        self,
        jobs: Jobs,
        name: str,
        write: Callable[[str], None],
        say: Callable[[str], None],
        limits: Limits | None = None,
    ) -> None:
        self._jobs, self._name, self._write, self._say = jobs, name, write, say
        self._limits = limits or Limits()
        self._written = 0
        self._spoke = -self._limits.between_words

    def until_end(self) -> Attempt:
        """Write what the job writes until it has ended; how it ended.

        Raises:
            TandemError: the cluster does not know the job, or answers no more.
        """
        while not (attempt := self._look()).ended:
            if attempt.status == "RUNNING":
                asyncio.run(self._stream())
            else:
                self._tell_pending(attempt)
            time.sleep(self._limits.between_looks)
        self._show(0, self._log())
        return attempt

    def last_lines(self) -> str:
        """The end of the log of a job that has ended."""
        return "".join(self._log().splitlines(keepends=True)[-_LINES_OF_THE_END:])

    async def _stream(self) -> None:
        """Write what comes until it ends or breaks; the next look tells which."""
        place = 0
        with contextlib.suppress(TimeoutError, ClusterUnreachable):
            async with contextlib.aclosing(self._jobs.tail(self._name)) as texts:
                while True:
                    # `wait_for` loses a Ctrl-C that comes together with a text.
                    async with asyncio.timeout(self._limits.silent):
                        text = await anext(texts, None)
                    if text is None:
                        return
                    self._show(place, text)
                    place += len(text)

    def _show(self, place: int, text: str) -> None:
        """Write what was not written yet of a text that begins at this place of the log."""
        if new := text[max(self._written - place, 0) :]:
            self._write(new)
            self._written = place + len(text)

    def _tell_pending(self, attempt: Attempt) -> None:
        now = time.monotonic()
        if now - self._spoke >= self._limits.between_words:
            self._spoke = now
            self._say(f"pending: {' '.join(attempt.message.split())}")

    def _look(self) -> Attempt:
        attempt = self._asked(lambda: self._jobs.find(self._name))
        if attempt is None:
            raise TandemError(
                f"The cluster does not know {self._name} any more, as after its head node started "
                "anew; submit the same again."
            )
        return attempt

    def _log(self) -> str:
        return self._asked(lambda: self._jobs.logs(self._name))

    def _asked(self, call: Callable[[], T]) -> T:
        try:
            return patiently(call, self._say, self._limits.unanswered)
        except ClusterUnreachable:
            raise TandemError(
                f"The cluster has not answered for {self._limits.unanswered:.0f} s; {self._name} "
                "may go on there: submit the same again to follow it."
            ) from None
