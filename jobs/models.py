"""`tandem models fetch`: put models where clusters find them that reach no hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.display import stdout
from jobs.ending import ending
from jobs.options import JsonOption
from pipelines.errors import UsageError

models = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@dataclass
class FetchSummary:
    """What was fetched: by the name that was given, the folder that a configuration names."""

    models: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@models.callback()
def about() -> None:
    """Models for clusters that reach no hub."""


@models.command()
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[@REVISION]...", help="Names on the hub, local folders, or bundled."
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="FOLDER", help="A folder, or s3://bucket/folder.")
    ],
    kind: Annotated[
        Literal["encoder", "scorer"],
        typer.Option(help="What bundled, or a name without an organisation, stands for."),
    ] = "encoder",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="A storage option of the store; may be given several times."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Put models into a folder or an object store, with a digest of each file."""
    summary = FetchSummary()
    with ending(summary, json):
        from pipelines.models.fetching import fetch as put
        from pipelines.storage.places import is_url, located

        folder = located(to if is_url(to) else str(Path(to).absolute()), _options(option or ()))
        for name in names:
            target = put(name, kind, folder, lambda line: stdout().print(line, soft_wrap=True))
            summary.models[name] = str(target)
            stdout().print(f"{name} is at {target}", soft_wrap=True)


def _options(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"--option takes KEY=VALUE, not {pair!r}.")
        found[key] = value
    return found
