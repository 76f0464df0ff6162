"""When the stages of a job began, did their first work, and ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.models.stages import SECONDS_BETWEEN_REPORTS

_SECONDS_BETWEEN_LOOKS = 0.05


class Watch:
    """A progress that notes when each tracked stage began, did its first work, and ended."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Tell nobody."""

    @contextmanager
    def track(
        self,
        name: str,
        unit: str,
        read: Callable[[], tuple[float, float]],
    ) -> Iterator[None]:
        """Look at a stage until it has done something."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_SECONDS_BETWEEN_LOOKS):
                if read()[0]:
                    self.first[name] = time.monotonic()
                    return

        self.began[name] = time.monotonic()
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended[name] = time.monotonic()
            over.set()
            thread.join()

    def work_began(self, name: str) -> float:
        """When a stage's first forward pass began, to a tenth of a second.

        A worker reports its work no sooner than so long after it has begun, or when it is done.
        """
        lag = SECONDS_BETWEEN_REPORTS + _SECONDS_BETWEEN_LOOKS
        return max(self.first.get(name, self.ended[name]) - lag, self.began[name])
