"""Where this node keeps what it found out of models, and what it downloaded of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path | None:
    """The folder, None if nothing is to be kept: `TANDEM_CACHE` names another, or is empty."""
    named = os.environ.get("TANDEM_CACHE")
    if named is not None:
        return Path(named).expanduser() if named else None
    cached = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cached).expanduser() / "tandem" / "models"
    except RuntimeError:  # there is no home
        return None


def download_folder() -> Path:
    """Where models of an object store go; they have to stand somewhere."""
    return (cache_folder() or Path(tempfile.gettempdir()) / "tandem-models") / "fetched"
