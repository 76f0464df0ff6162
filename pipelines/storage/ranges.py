"""An object as a raw stream: each read is a request for a range of its bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any


class Ranges(io.RawIOBase):
    """A stream of so many bytes; `read` brings those from a start to an end."""

    def __init__(self, read: Callable[[int, int], memoryview], size_bytes: int) -> None:
        self._read_range, self._size, self._at = read, size_bytes, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is asked for."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever can be written into
        """Fill a buffer with what follows, as far as there is some."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        count = end - self._at
        buffer[:count] = self._read_range(self._at, end)
        self._at = end
        return count
