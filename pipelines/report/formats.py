"""How numbers are written on the pages: grouped thousands, a true minus, units."""

from __future__ import annotations

NONE = "–"
_LEAST_P = 0.0001


def count(value: int | None) -> str:
    """A count with grouped thousands."""
    return NONE if value is None else f"{value:,}".replace("-", "−")


def decimal(value: float | None, places: int = 3) -> str:
    """A number with so many decimals; three for measures."""
    return NONE if value is None else f"{value + 0.0:,.{places}f}".replace("-", "−")


def signed(value: float | None, places: int = 3) -> str:
    """A difference with its sign; none where it rounds to 0."""
    if value is None:
        return NONE
    written = f"{value:+,.{places}f}"
    return f"{0:.{places}f}" if not written.strip("+-0.,") else written.replace("-", "−")


def share(value: float | None) -> str:
    """A share in percent."""
    return NONE if value is None else f"{100 * value:.1f}%"


def probability(value: float | None) -> str:
    """A p-value; below what 10,000 permutations can tell, that it is below."""
    if value is None:
        return NONE
    return f"{value:.4f}" if value >= _LEAST_P else f"< {_LEAST_P}"


def duration(seconds: float) -> str:
    """Seconds, or minutes and hours with them where there are more."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def shorten(text: str, most: int) -> str:
    """A text of at most so many characters, the last one an ellipsis where it was cut."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
