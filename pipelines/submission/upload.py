"""What travels to the cluster: the resolved configuration, and the code that reads it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from pipelines.config import Config
from pipelines.interrupt import DRAIN_SECONDS

CONFIG_FILE = "tandem.yaml"
DELETE_FILE = "delete.txt"
_HERE = Path(__file__).resolve().parent
_ENTRY = "entry.sh"
_PACKAGES = ("pipelines", "jobs")
_WEIGHTS = Path("pipelines", "bundled", "reranker")
# Between the signal and its end a run stages what is in flight, and closes its table.
_STOP_SECONDS = DRAIN_SECONDS + 30

# Without a value Ray gives a job three seconds from SIGTERM to SIGKILL.
ENVIRONMENT = {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}


def as_file(config: Config) -> str:
    """The configuration as YAML, every value in its place: what `load_config` makes the same of."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def write_folder(folder: Path, texts: Mapping[str, str], *, code: bool, weights: bool) -> None:
    """Write the working directory of a job.

    Args:
        folder: an empty one.
        texts: files by name.
        code: whether the packages travel, or the image of the nodes has them.
        weights: whether those of the bundled reranker travel with the code.
    """
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copyfile(_HERE / _ENTRY, folder / _ENTRY)
    if not code:
        return
    root = _HERE.parents[1]
    left_out = root / _WEIGHTS

    def ignored(place: str, names: list[str]) -> list[str]:
        skipped = [name for name in names if name == "__pycache__" or name.endswith(".pyc")]
        if not weights and Path(place) == left_out.parent:
            skipped.append(left_out.name)
        return skipped

    for package in _PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=ignored)


def entry_point(command: str, words: Sequence[str]) -> str:
    """The shell's line that runs a command of the working directory; its process is the run's."""
    return f"exec sh {_ENTRY} {shlex.join([command, CONFIG_FILE, *words])}"
