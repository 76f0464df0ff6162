"""The names of a run's attempts: the same run has the same name, whoever submits it and when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

_DIGEST_BYTES = 6


def run_name(command: str, words: Sequence[str], texts: Mapping[str, str], key: str | None) -> str:
    """The name of a run, which the number of an attempt completes.

    Args:
        command: the command that runs on the cluster.
        words: its options.
        texts: the files that say what it does, by name: the resolved configuration and, with
            `--delete`, the list of ids.
        key: what tells runs apart that are the same otherwise; None stands for today, in UTC.
    """
    key = f"{datetime.now(UTC):%Y-%m-%d}" if key is None else key
    content = json.dumps([command, list(words), dict(texts), key], sort_keys=True)
    digest = hashlib.blake2b(content.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"tandem-{command}-{digest}"


def submission_id(name: str, attempt: int) -> str:
    """The id of a run's attempt; the first is 1."""
    return f"{name}-{attempt}"
