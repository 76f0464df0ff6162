"""Structured logs: with `TANDEM_LOG=json` a line is a JSON object, in the driver and in workers.

Ray writes them and adds `job_id`, `node_id`, `worker_id` and more; Tandem adds `run`, `command` and
`stage`. The driver's go to standard error, the workers' to Ray's own log files on each node.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

LOGGER = "tandem"


def json_wanted() -> bool:
    """Whether the environment asks for structured logs."""
    return os.environ.get("TANDEM_LOG") == "json"


def as_json(message: str, **said: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """An error as a line of such a log, for where Ray writes none."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S,%f}"[:-3]
    return json.dumps({"asctime": now, "levelname": "ERROR", "message": message} | said)


def tell(message: str, **said: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Log one thing, if logs are wanted."""
    logger = logging.getLogger(LOGGER)
    if logger.isEnabledFor(logging.INFO):
        logger.info(message, extra=said)
