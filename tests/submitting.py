"""`tandem submit` to a dashboard, real or fake, as a person types it."""

from pathlib import Path

import yaml
from typer.testing import CliRunner

from jobs.__main__ import app

ROOT = Path(__file__).resolve().parents[1]


def submit(dashboard, *words):
    """The command in this process; `dashboard` has an address."""
    words = ["submit", "--address", dashboard.address, *map(str, words)]
    return CliRunner().invoke(app, words)


def small_config(folder, **sections):
    """A configuration that every command takes, of files that need not be there."""
    raw = {
        "corpus": {"format": "jsonl", "paths": ["corpus.jsonl"]},
        "table": {"uri": "index"},
        "queries": {"format": "jsonl", "paths": ["log.jsonl"], "qrels": "qrels.tsv"},
    }
    path = folder / "tandem.yaml"
    path.write_text(yaml.safe_dump(raw | sections), encoding="utf-8")
    return path
