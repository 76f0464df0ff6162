"""Stopping on a signal: at once, or where work is in flight, when that is staged."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pipelines.errors import Interrupted

# What is in flight is about ten seconds of each actor's work.
DRAIN_SECONDS = 90
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """What a signal does to a run: SIGTERM (Ray, Kubernetes) and SIGINT (Ctrl-C).

    Outside of `draining` the run ends at once. Inside, the first signal lets what is in flight be
    staged; a second one, or `DRAIN_SECONDS`, ends the run all the same.
    """

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self._say = say
        self._drain: Callable[[], None] | None = None
        self._asked: str | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Answer the signals while the block runs; only in a process's main thread."""
        numbers = (*_SIGNALS, signal.SIGALRM)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            signal.alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def draining(self, drain: Callable[[], None]) -> Iterator[None]:
        """Let a signal call `drain`, from a thread, and the block end by itself.

        Raises:
            Interrupted: the block ended after a signal.
        """
        self._drain = drain
        try:
            yield
        finally:
            self._drain = None
        if self._asked:
            raise self._ended()

    def _handle(self, number: int, _: FrameType | None) -> None:
        first = self._asked is None
        if number != signal.SIGALRM:
            self._asked = signal.Signals(number).name
        if not first or self._drain is None:
            raise self._ended()
        signal.alarm(DRAIN_SECONDS)
        self._say(f"{self._asked}: what is in flight is staged, then the run ends.")
        # Not here: the signal may have come in the middle of a call of Ray's.
        threading.Thread(target=self._drain, daemon=True).start()

    def _ended(self) -> Interrupted:
        return Interrupted(
            f"Stopped by {self._asked}; the same command goes on from what is staged."
        )
