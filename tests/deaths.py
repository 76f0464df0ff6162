"""Commands in processes of their own that end as planned, and the corpora they are tried on."""

import json
import os
import subprocess
import sys
from pathlib import Path

from running import document

from pipelines.corpus.identity import digest, passage
from pipelines.storage.arrow_files import read_arrow
from pipelines.table import ledger

HERE = Path(__file__).resolve().parent
SETTINGS = {"corpus": {"metadata": ["lang"]}, "publish": {"max_deleted_fraction": 0.5}}

OLD = [document(n) for n in range(400)]
# A tenth is edited, some go, some come: enough to compact.
NEW = [document(n, edition=int(n % 9 == 0)) for n in range(10, 800)]
NEXT = [document(n, edition=int(n % 7 == 0)) for n in range(20, 810)]


def passages(documents):
    """The hashes of what is encoded of some documents."""
    return {digest(passage(row["title"], row["text"])) for row in documents}


def staged_passages(place):
    """The hashes of what is staged."""
    files = ledger.list_entries(place.ledger, "")
    return {row for file in files for row in read_arrow(file)["text_hash"].to_pylist()}


def start(cluster, plan, *words, **environment):
    """Start a command that ends as planned."""
    return subprocess.Popen(
        [sys.executable, str(HERE / "killed.py"), json.dumps(plan), *map(str, words)],
        env=os.environ | {"RAY_ADDRESS": cluster, "PYTHONPATH": str(HERE.parent)} | environment,
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process, seconds=120):
    """The exit code, and what was said."""
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said
