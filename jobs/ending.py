"""How a command ends: the summary is written, and an error is one sentence and an exit code."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pipelines.errors import TandemError, UsageError
from pipelines.logs import as_json, json_wanted
from pipelines.storage.faults import is_store_fault, store_fault
from pipelines.summary import require_writable, write_json

if TYPE_CHECKING:
    from pipelines.interrupt import Interrupt


@contextmanager
def ending(summary: Any, json: Path | None) -> Iterator[None]:  # noqa: ANN401 - each flow has its own
    """Write the summary at every exit code but 2, and turn an error into its exit code."""
    try:
        if json is not None:
            require_writable(json, "--json")
        yield
    except typer.Exit:
        raise
    except UsageError as error:
        raise told(error) from None
    except Exception as error:  # noqa: BLE001 - the last place before the process ends
        cause = told_cause(error)
        if isinstance(cause, UsageError):
            raise told(cause) from None
        if not isinstance(cause, TandemError):
            if json_wanted():
                print(as_json("unforeseen", exc_text=traceback.format_exc()), file=sys.stderr)  # noqa: T201
            else:
                traceback.print_exc()
            first = str(error).strip().splitlines() or [""]
            cause = TandemError(f"{type(error).__name__}: {first[0]}")
        summary.error = str(cause)
        _write(summary, json)
        raise told(cause, summary) from None
    _write(summary, json)


@contextmanager
def interruptible(say: Callable[[str], None]) -> Iterator[Interrupt]:
    """What a signal does to the run in the block; signals reach the main thread alone."""
    from pipelines.interrupt import Interrupt

    interrupt = Interrupt(say)
    here = threading.current_thread() is threading.main_thread()
    with interrupt.installed() if here else nullcontext():
        yield interrupt


def told(error: TandemError, summary: Any = None) -> typer.Exit:  # noqa: ANN401
    """Print the sentence; the exit to raise."""
    line = f"tandem: {error}"
    if json_wanted():  # perhaps before Ray writes logs
        line = as_json(str(error), exit_code=error.exit_code, run=getattr(summary, "run", None))
    print(line, file=sys.stderr)  # noqa: T201
    return typer.Exit(error.exit_code)


def told_cause(error: BaseException) -> BaseException:
    """The error of ours that a worker raised, inside what Ray wraps around it.

    What Lance says of an object store that failed is made one.
    """
    seen: BaseException | None = error
    failed = None
    while seen is not None:
        failed = seen if is_store_fault(seen) else failed
        inner = getattr(seen, "cause", None)
        if isinstance(inner, TandemError):
            return inner
        if isinstance(seen, TandemError) and "Traceback" not in str(seen):
            return seen
        seen = inner if isinstance(inner, BaseException) else seen.__cause__
    return error if failed is None else store_fault(failed)


def _write(summary: Any, json: Path | None) -> None:  # noqa: ANN401
    if json is not None:
        write_json(json, summary)
