"""Where the vector of a chunk comes from: the column `origin` between chunking and staging."""

from __future__ import annotations

from typing import Final

ENCODED: Final = 0  # by the model, in this run
LIVE: Final = 1  # copied from an equal passage of the published version
STAGED: Final = 2  # copied from what an earlier run staged
COPIED: Final = 3  # copied from an equal passage that this run encodes
