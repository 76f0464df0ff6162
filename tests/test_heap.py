"""The heap of a worker: freed memory goes back to the system, whatever lies above it."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.models.heap import trim

ROOT = Path(__file__).resolve().parents[1]

HELD = """
import re
from pathlib import Path
from pipelines.models.heap import trim
def own():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
pieces = [bytes(4000) + bytes([n % 256]) for n in range(50_000)]
last = pieces[-1]
del pieces
before = own()
trim()
print(before - own())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_what_was_freed_below_something_goes_back():
    done = subprocess.run(
        [sys.executable, "-c", HELD], cwd=ROOT, capture_output=True, text=True, check=True
    )
    kilobytes = int(re.findall(r"-?\d+", done.stdout)[-1])
    assert kilobytes > 100_000


def test_it_may_be_called_at_any_time():
    trim()
    trim()
