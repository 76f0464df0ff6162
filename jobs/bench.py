"""`tandem bench`."""

from jobs.options import JsonOption


def bench(json: JsonOption = None, full: bool = False) -> None:
    """Measure."""
