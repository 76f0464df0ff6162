"""What an object store said that could not be reached or refused: of obstore and of Lance alike."""

from __future__ import annotations

import re

from pipelines.errors import StorageFault

# How the library says it that both are built on; a missing object is "not found", and no fault.
_FAULT = re.compile(
    r"Generic (S3|GCS|MicrosoftAzure) error|Error performing (GET|PUT|POST|HEAD|DELETE)"
    r"|error sending request|Server returned (error|non-2xx) response|HTTP error"
)
_CUT = re.compile(r"response body|ResponseBody|IncompleteMessage|connection closed")
_MISSING = re.compile(r"[Nn]ot ?[Ff]ound|NoSuchKey|already exists")
_MOST_CHARACTERS = 240


class CutShort(StorageFault):
    """The answer to a request broke off."""


def is_store_fault(error: BaseException) -> bool:
    """Whether Lance says that the object store failed, and not that something is missing."""
    said = str(error)
    return bool(_FAULT.search(said)) and not _MISSING.search(said)


def store_fault(error: BaseException, url: str = "") -> StorageFault:
    """The sentence that a user reads."""
    said = " ".join(str(error).split())[:_MOST_CHARACTERS].rstrip(". ")
    where = f" at {url}" if url else ""
    kind = CutShort if _CUT.search(said) else StorageFault
    return kind(
        f"The object store failed{where}: {said}. Check its endpoint, region and credentials, "
        "and run the command again; what is staged is kept."
    )
