"""The memory that a run takes, looked at while it runs.

What is counted are resident pages as Linux tells them, without shared segments such as Ray's object
store; elsewhere nothing is measured.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_SECONDS_BETWEEN_LOOKS = 0.02


class PeakMemory:
    """The greatest resident size while the block runs.

    Attributes:
        before: what there was when the block began, in MB; None where nothing can be measured.
        most: the greatest that was seen from then on, in MB; None likewise.
    """

    def __init__(
        self,
        look: Callable[[], float | None] | None = None,
        seconds_between_looks: float = _SECONDS_BETWEEN_LOOKS,
    ) -> None:
        """Look at this process, or at whatever `look` tells the MB of."""
        self._look, self._seconds = look or own_mb, seconds_between_looks
        self.before: float | None = None
        self.most: float | None = None

    def __enter__(self) -> PeakMemory:
        """Begin to look."""
        self._over = threading.Event()
        self.before = self.most = self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look once more, and end."""
        self._over.set()
        self._thread.join()
        self._note()

    @property
    def megabytes(self) -> dict[str, Any]:
        """`before`, `most`, and what was `added`, in MB."""
        known = self.before is not None and self.most is not None
        added = self.most - self.before if known else None  # type: ignore[operator]
        return {"before": self.before, "most": self.most, "added": added}

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            self._note()

    def _note(self) -> None:
        now = self._look()
        if now is not None:
            self.most = max(now, self.most or 0.0)


def give_back() -> None:
    """Return freed memory to the system, so that a run does not hide in what another one left."""
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def own_mb() -> float | None:
    """The resident size of this process."""
    return resident_mb(_read("self/status"))


class LargestWorker:
    """Tells the resident size of the largest process below this one, as of a worker of Ray's.

    One that was there before and has not grown since is left aside: a worker of an earlier run may
    take a while to end. None if there is no other, for example on a cluster that was joined.
    """

    def __init__(self) -> None:
        self._before = _sizes_below()

    def __call__(self) -> float | None:
        """The size now, in MB."""
        return largest_grown(self._before, _sizes_below())


def largest_grown(before: Mapping[int, float], now: Mapping[int, float]) -> float | None:
    """The largest size of those that are new or have grown by more than a MB."""
    grown = [size for number, size in now.items() if size > before.get(number, -1.0) + 1.0]
    return max(grown, default=None)


def _sizes_below() -> dict[int, float]:
    """The resident size of each process below this one, by its number."""
    parents = {
        int(folder.name): parent
        for folder in Path("/proc").glob("[0-9]*")
        if (parent := parent_of(_read(f"{folder.name}/stat"))) is not None
    }
    below, found = {os.getpid()}, set[int]()
    while below:
        below = {number for number, parent in parents.items() if parent in below} - found
        found |= below
    sizes = {number: resident_mb(_read(f"{number}/status")) for number in found}
    return {number: size for number, size in sizes.items() if size is not None}


def parent_of(stat: str) -> int | None:
    """The number of a process's parent, as Linux tells it; None if the process is gone."""
    # The name stands in brackets and may hold anything, brackets too.
    _, _, rest = stat.rpartition(")")
    return int(rest.split()[1]) if rest.split() else None


def resident_mb(status: str) -> float | None:
    """Resident pages without shared segments, in MB, as Linux tells them; None if it does not."""
    values = {
        key: int(value.split()[0])
        for key, _, value in (line.partition(":") for line in status.splitlines())
        if key in ("VmRSS", "RssShmem")
    }
    if "VmRSS" not in values:
        return None
    return (values["VmRSS"] - values.get("RssShmem", 0)) * 1024 / 1e6


def _read(name: str) -> str:
    """A file below /proc; nothing of a process that is gone, or where there is no /proc."""
    try:
        return (Path("/proc") / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
