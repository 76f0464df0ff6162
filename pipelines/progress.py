"""How far a run is: counts that workers send, and the door through which a run speaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

Counts = dict[str, float]


class Progress(Protocol):
    """Where a flow tells what it does; the command line shows it."""

    def say(self, line: str) -> None:
        """Tell one thing."""

    def track(
        self, name: str, unit: str, read: Callable[[], tuple[float, float]]
    ) -> AbstractContextManager[Any]:
        """Show a stage while it runs; `read` gives how many units are done, and of how many."""


class Silent:
    """A progress that nobody sees."""

    def say(self, line: str) -> None:
        """Tell nobody."""

    def track(
        self,
        name: str,
        unit: str,
        read: Callable[[], tuple[float, float]],
    ) -> AbstractContextManager[Any]:
        """Show nothing."""
        return nullcontext()


class Tally:
    """Sums what workers tell, in an actor of its own.

    Work that is done a second time after a worker died is told a second time: these are for the
    eye. What a run says at its end comes from what it staged.
    """

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._most_in_flight = 0.0
        self._stopped = False

    def add(self, counts: Counts) -> None:
        """Add to the sums."""
        self._sums.update(counts)
        in_flight = self._sums["encoded"] - self._sums["staged"]
        self._most_in_flight = max(self._most_in_flight, in_flight)

    def read(self) -> Counts:
        """The sums; `in_flight` is the most that was encoded and not yet staged at any time."""
        return {**self._sums, "in_flight": self._most_in_flight}

    def stop(self) -> None:
        """Note that nothing more is to be begun."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._stopped


class Tell:
    """A callable that workers hold: sends counts to a tally's actor and does not wait."""

    def __init__(self, tally: Any) -> None:  # noqa: ANN401 - a handle of Ray's
        self._tally = tally

    def __call__(self, **counts: float) -> None:
        """Send counts."""
        self._tally.add.remote(counts)


class Counted:
    """A stage over tables that tells how many rows it has worked on, under a name."""

    def __init__(self, stage: Callable[[Any], Any], tell: Callable[..., None], name: str) -> None:
        self._stage, self._tell, self._name = stage, tell, name

    def __call__(self, table: Any) -> Any:  # noqa: ANN401 - tables of Arrow's
        """Work on a table."""
        made = self._stage(table)
        self._tell(**{self._name: table.num_rows})
        return made
