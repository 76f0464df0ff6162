"""What a log collector reads while a run goes on: a JSON object a line, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import Any

from jobs.display import Display
from pipelines.every import every
from pipelines.logs import json_wanted, tell
from pipelines.progress import Progress

_SECONDS_BETWEEN_LINES = 30.0


def progress_of(command: str, run: str) -> Progress:
    """For people, or with `TANDEM_LOG=json` for a log collector."""
    return LogLines(command, run) if json_wanted() else Display()


class LogLines:
    """A progress as log lines, which hold run, command and stage."""

    def __init__(self, command: str, run: str) -> None:
        self._tags = {"command": command, "run": run}

    def say(self, line: str) -> None:
        """Tell one thing."""
        tell(line, **self._tags, stage=None)

    def track(
        self, name: str, unit: str, read: Callable[[], tuple[float, float]]
    ) -> AbstractContextManager[None]:
        """Tell that a stage begins and ends, and how far it is."""
        return self._told(name, unit, read)

    @contextmanager
    def _told(
        self, name: str, unit: str, read: Callable[[], tuple[float, float]]
    ) -> Iterator[None]:
        tags = self._tags | {"stage": name.lower()}

        def look() -> None:
            done, total = read()
            tell("progress", **tags, done=done, total=total, unit=unit)

        tell("begins", **tags)
        with every(_SECONDS_BETWEEN_LINES, look):
            yield
        tell("ends", **tags)


def told_summary(command: str, summary: Any) -> bool:  # noqa: ANN401 - of any flow
    """Tell a log collector what a run did, if there is one; else it is to be shown to people."""
    if json_wanted():
        tell("summary", command=command, run=summary.run, stage=None, summary=asdict(summary))
    return json_wanted()
