"""`tandem init`: write a commented configuration to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.ending import told
from pipelines.errors import UsageError

_TEMPLATE = Path(__file__).resolve().parents[1] / "pipelines" / "bundled" / "config.yaml"


def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("tandem.yaml"),
) -> None:
    """Write a commented configuration; an existing file is left alone."""
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(_TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise told(UsageError(f"{file} exists already; name another file.")) from None
    except OSError as error:
        raise told(UsageError(f"{file} cannot be written: {error.strerror}.")) from None
    typer.echo(f"Wrote {file}. Name your corpus in it, then run: tandem index {file}")
