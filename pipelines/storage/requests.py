"""Requests to an object store: what fails is said, and what was cut short is asked again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from obstore.exceptions import BaseError

from pipelines.storage.faults import CutShort, store_fault

# Between tries of what was cut, which the library below does not make for itself.
_PAUSES_SECONDS = (0.1, 0.4, 1.6)

Found = TypeVar("Found")


def asked(url: str, read: Callable[[], Found]) -> Found:
    """What a request answers that changes nothing; one whose answer was cut is made again.

    Raises:
        FileNotFoundError: there is no such object.
        StorageFault: the store cannot be reached, or refuses.
    """
    for pause in _PAUSES_SECONDS:
        with suppress(CutShort), told(url):
            return read()
        time.sleep(pause)
    with told(url):
        return read()


@contextmanager
def told(url: str) -> Iterator[None]:
    """What the store says, as an error that says what to do.

    Raises:
        FileNotFoundError: there is no such object.
        StorageFault: the store cannot be reached, or refuses.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from None
    except BaseError as error:
        raise store_fault(error, url) from None
