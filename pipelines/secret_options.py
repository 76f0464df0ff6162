"""What of a configuration nobody is to read: options of a store, and addresses with a password."""

from __future__ import annotations

import re

_SECRET = re.compile(r"secret|token|key|passw|credential|sas", re.IGNORECASE)
# A user, or a user and a password, before the host.
WITH_PASSWORD = re.compile(r"://[^/@\s]+@")


def is_secret(option: str) -> bool:
    """Whether an option of an object store is named like a secret."""
    return _SECRET.search(option) is not None
