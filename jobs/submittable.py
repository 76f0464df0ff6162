"""The commands that run as jobs of a cluster, and what they are asked for, checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from jobs.evaluate import evaluate
from jobs.index import index, index_request
from jobs.plan import plan
from jobs.publish import publish
from jobs.rerank import rerank
from jobs.train import train
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.errors import UsageError
from pipelines.storage.places import is_url
from pipelines.submission.upload import DELETE_FILE

_INDEX = ("corpus.paths", "encoder.model", "table.uri")
_EVALUATE = ("queries.qrels", "table.uri", "output.path")
_RERANK = ("queries.paths", "queries.topics", "encoder.model", "reranker.model", *_EVALUATE)
_TRAIN = ("train.start", "train.runs", "train.output", *_RERANK[:-1])
# Each command, and the keys of what it opens on the nodes.
_COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "plan": (plan, _INDEX),
    "index": (index, _INDEX),
    "publish": (publish, ("table.uri",)),
    "rerank": (rerank, _RERANK),
    "evaluate": (evaluate, _EVALUATE),
    "train": (train, _TRAIN),
}
# What submitting itself takes, and takes before the command.
_OURS = ("--address", "--key", "--image-code", "--detach")
# Options of a command that are applied here.
_APPLIED = ("set", "delete", "json", "help")


@dataclass(frozen=True)
class Asked:
    """A command that is to run on a cluster.

    Attributes:
        command: its name.
        options: those that it was given, as they are typed, but for what is applied here.
        config: the configuration, resolved.
        deleted: the ids to remove, one a line; None without `--delete`.
        opens: the keys of what it opens on the nodes.
    """

    command: str
    options: tuple[str, ...]
    config: Config
    deleted: str | None
    opens: tuple[str, ...]


def asked(command: str, words: list[str]) -> Asked:
    """Take a command's words as the command itself would, without running it.

    Raises:
        UsageError: it cannot be submitted, or not like this.
        typer's own UsageError: the command has no such option.
    """
    if command not in _COMMANDS:
        names = ", ".join(_COMMANDS)
        raise UsageError(f"{command!r} does not run as a job; allowed: {names}.")
    if ours := [word for word in words if word.partition("=")[0] in _OURS]:
        raise UsageError(
            f"{ours[0]} belongs to submit; write it before {command}: tandem submit {ours[0]} … "
            f"{command} …"
        )
    function, opens = _COMMANDS[command]
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name=command)(function)
    parser = get_command(app)
    context = parser.make_context(f"tandem submit {command}", list(words))
    given = context.params
    if given["json"] is not None:
        raise UsageError(
            f"--json after {command} would be written on the cluster; before {command} it writes "
            "the summary of the submission here."
        )
    config = _checked(load_config(Path(given["config"]), given["set"] or ()), given, opens)
    options: list[str] = []
    for param in parser.params:
        value = given.get(param.name or "")
        if param.param_type_name != "option" or param.name in _APPLIED or not value:
            continue
        options += [param.opts[0]] if value is True else [param.opts[0], str(value)]
    deleted = None
    if given.get("delete") is not None:
        deleted = Path(given["delete"]).read_text(encoding="utf-8")
        options += ["--delete", DELETE_FILE]
    return Asked(command, tuple(options), config, deleted, opens)


def _checked(config: Config, given: Mapping[str, Any], opens: tuple[str, ...]) -> Config:
    """Check what the command would, before it looks at any data."""
    delete = given.get("delete")
    if "delete" in given:
        index_request(
            config,
            only_add=given["only_add"],
            delete=None if delete is None else Path(delete),
            limit=given["limit"],
        )
    if "corpus.paths" in opens and delete is None:
        config.require_corpus()
    if "output.path" in opens:
        config.require_queries()
    # Defaults count from the working directory, which on the cluster is a copy that goes.
    output = config.output
    if not is_url(output.path):
        output = output.model_copy(update={"path": str(Path.cwd() / output.path)})
    trained = config.train.model_copy(update={"output": str(Path.cwd() / config.train.output)})
    return config.model_copy(update={"output": output, "train": trained})
