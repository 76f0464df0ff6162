"""Who works on a table: a lease that saves the work of a second run. It is not the fence.

The holder beats from a thread of its own; who meets a lease watches it for three beats. One comes:
the holder lives. None does: the lease is taken over. Clocks of two machines are never compared. A
holder that died on this very machine is seen at once, by its process.

The files: `holder.json` says who holds, `<run>.beat` counts a holder's beats, and `<run>.<n>.taken`
has one winner among those who want to take over what `<run>` held. Only its holder writes a beat,
so one that was taken over and wakes up cannot disturb its successor.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pipelines.errors import StorageFault, TableHeld
from pipelines.storage.places import AnyPath, create, new_folders, remove_empty, write_bytes

BEAT_SECONDS = 2.0
MISSED_BEATS = 3
_HOLDER = "holder.json"


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: the run, where it runs, since when (ISO 8601, for people only)."""

    run: str
    host: str
    process: int
    machine: str
    started: int
    since: str

    @classmethod
    def here(cls, run: str) -> Holder:
        """This process."""
        process = os.getpid()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        started = _start_of(process) or 0
        return cls(run, socket.gethostname(), process, _machine(), started, since)

    def died_here(self) -> bool:
        """Whether it was a process of this machine that is no more."""
        return (
            bool(self.machine)
            and self.machine == _machine()
            and (_start_of(self.process) != self.started)
        )

    def __str__(self) -> str:
        return f"run {self.run} (process {self.process} on {self.host}, since {self.since})"


class Lease:
    """A lease that this process holds."""

    def __init__(self, folder: AnyPath, holder: Holder) -> None:
        self._folder, self._holder = folder, holder
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Go on only as the holder.

        Raises:
            TableHeld: another run took the lease over.
        """
        holder = read_holder(self._folder)
        if self._lost.is_set() or holder is None or holder.run != self._holder.run:
            by = f": {holder} works on the table now" if holder else ""
            raise TableHeld(f"This run lost its lease{by}. Run the command again.")

    def release(self) -> None:
        """Let others have it."""
        self._stopped.set()
        self._thread.join()
        # Where the store is gone, whoever comes next finds a holder that does not beat.
        with suppress(StorageFault):
            holder = read_holder(self._folder)
            if holder is not None and holder.run == self._holder.run:
                (self._folder / _HOLDER).unlink(missing_ok=True)
            for file in _files_of(self._folder, f"{self._holder.run}.*"):
                file.unlink(missing_ok=True)

    def _beat(self) -> None:
        beats = 0
        while not self._stopped.wait(BEAT_SECONDS if beats else 0):
            # A beat that cannot be written is one that is missed.
            with suppress(OSError, StorageFault):
                holder = read_holder(self._folder)
                if holder is None or holder.run != self._holder.run:
                    self._lost.set()
                    return
                beats += 1
                write_bytes(self._folder / f"{self._holder.run}.beat", str(beats).encode())


@contextmanager
def leased(
    folder: AnyPath,
    run: str,
    wait: bool = False,
    say: Callable[[str], None] = lambda _: None,
    refusal: str = "The table is held by {holder}; wait for it, or give --wait.",
) -> Iterator[Lease]:
    """Hold the lease in `folder` while the block runs; with `wait`, once it is free.

    Raises:
        TableHeld: another run holds it, and lives.
    """
    made = new_folders(folder)
    holder = Holder.here(run)
    told = None
    while not _claimed(folder, holder):
        other = read_holder(folder)
        if other is None:
            continue
        # Counted before it is watched: all who watched the same death want the same mark.
        attempt = len(_files_of(folder, f"{other.run}.*.taken"))
        dead = attempt == 0 and other.died_here()
        seen = "nothing" if dead else _watched(folder, other)
        if seen == "another":
            continue
        if seen == "a beat":
            if not wait:
                raise TableHeld(refusal.format(holder=other))
            if told != other.run:
                say(f"Waiting for {other}.")
                told = other.run
            time.sleep(BEAT_SECONDS)
        elif _taken_over(folder, other, holder, attempt):
            say(f"Took over from {other}, which is no more.")
            break
    lease = Lease(folder, holder)
    try:
        yield lease
    finally:
        lease.release()
        remove_empty(made)  # a run that wrote nothing leaves nothing


def read_holder(folder: AnyPath) -> Holder | None:
    """Who holds the lease, None if nobody does."""
    try:
        return Holder(**json.loads((folder / _HOLDER).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError:
        # The machine that wrote it went down: whoever it was, it is no more.
        return Holder("unknown", "unknown", 0, "", 0, "")


def _claimed(folder: AnyPath, holder: Holder) -> bool:
    """Write the holder's file if there is none; of several who try, one does."""
    return create(folder / _HOLDER, _encoded(holder), holder.run)


def _watched(folder: AnyPath, holder: Holder) -> Literal["a beat", "another", "nothing"]:
    """Watch a holder for so many beats as it may miss: one comes, it lets go, or nothing does."""
    before = _beat_of(folder, holder)
    until = time.monotonic() + MISSED_BEATS * BEAT_SECONDS + BEAT_SECONDS / 2
    while time.monotonic() < until:
        time.sleep(BEAT_SECONDS / 10)
        if read_holder(folder) != holder:
            return "another"
        if _beat_of(folder, holder) != before:
            return "a beat"
    return "nothing"


def _beat_of(folder: AnyPath, holder: Holder) -> str | None:
    try:
        return (folder / f"{holder.run}.beat").read_text()
    except FileNotFoundError:
        return None


def _taken_over(folder: AnyPath, dead: Holder, holder: Holder, attempt: int) -> bool:
    """Put `holder` in the place of one that is dead; of several who try, one does.

    A winner that died before it took the place is outlived by the next attempt.
    """
    mark = folder / f"{dead.run}.{attempt}.taken"
    if not create(mark, _encoded(holder), holder.run):
        return False
    if read_holder(folder) != dead:
        mark.unlink(missing_ok=True)
        return False
    write_bytes(folder / _HOLDER, _encoded(holder))
    for file in _files_of(folder, f"{dead.run}.*"):
        file.unlink(missing_ok=True)
    return True


def _files_of(folder: AnyPath, pattern: str) -> list[AnyPath]:
    try:
        return list(folder.glob(pattern))
    except FileNotFoundError:
        return []  # the folder went with the run that held it


def _encoded(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _machine() -> str:
    """A name for this boot of this machine and its table of processes; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - it is no path
    except OSError:
        return ""


def _start_of(process: int) -> int | None:
    """When a process started, in ticks since the machine did; None if it is no more."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])
