"""What a person sees while a run goes on: a live line in a terminal, else one every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pipelines.every import every

Read = Callable[[], tuple[float, float]]
_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_LOOKS = 0.5


class Display:
    """A progress for people, on standard error; results go to standard output."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal

    def say(self, line: str) -> None:
        """Tell one thing."""
        self._console.print(line, markup=False, soft_wrap=True)

    def track(self, name: str, unit: str, read: Read) -> AbstractContextManager[None]:
        """Show a stage while it runs."""
        return self._bar(name, unit, read) if self._live else self._lines(name, unit, read)

    @contextmanager
    def _bar(self, name: str, unit: str, read: Read) -> Iterator[None]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(f"{{task.completed:.0f}} of {{task.total:.0f}} {unit}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        idle = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        counted = read()[1] > 0
        with Progress(
            *(columns if counted else idle), console=self._console, transient=True
        ) as bar:
            task = bar.add_task(name, total=read()[1] or None)

            def look() -> None:
                done, total = read()
                bar.update(task, completed=done, total=total or None)

            with every(_SECONDS_BETWEEN_LOOKS, look):
                yield

    @contextmanager
    def _lines(self, name: str, unit: str, read: Read) -> Iterator[None]:
        started = time.monotonic()
        first: list[tuple[float, float]] = []

        def look() -> None:
            done, total = read()
            now = time.monotonic()
            if done and not first:
                first.append((now, done))
            self.say(progress_line(name, unit, done, total, now - started, first, now))

        with every(_SECONDS_BETWEEN_LINES, look):
            yield


def progress_line(
    name: str,
    unit: str,
    done: float,
    total: float,
    elapsed_seconds: float,
    first: list[tuple[float, float]],
    now: float,
) -> str:
    """One line of progress; the time left counts from when the first units were done."""
    if not total:
        return f"{name}: {elapsed_seconds:.0f} s"
    line = f"{name}: {done:,.0f} of {total:,.0f} {unit} ({done / total:.0%})"
    if first and now > first[0][0] and done > first[0][1]:
        rate = (done - first[0][1]) / (now - first[0][0])
        line += f", {rate:,.0f}/s, {duration(max(total - done, 0) / rate)} left"
    return line


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 60:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def show_table(headings: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """Print a table on standard output; the first column is text, the others numbers."""
    table = Table(show_edge=False, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    if title:
        stdout().print(title, soft_wrap=True)
    stdout().print(table)


def stdout() -> Console:
    """Standard output; where it is no terminal, wide enough not to break lines."""
    width = None if sys.stdout.isatty() else 120
    return Console(highlight=False, markup=False, width=width)


def printable(text: str) -> str:
    """Text without control characters, which could drive a terminal."""
    return "".join(mark if mark.isprintable() else " " for mark in text)
