"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[
    Path, typer.Argument(help="The configuration, a YAML file; `tandem init` writes one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override one value of the configuration; may be given several times.",
    ),
]
OnlyAddOption = Annotated[
    bool,
    typer.Option("--only-add", help="The corpus is a part: documents that it lacks stay."),
]
DeleteOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Remove the documents whose ids the file lists, one a line; no other."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(min=1, help="Take the first rows only, into a trial table beside the real one."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait while another run holds the table, instead of ending.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the summary as JSON.")
]
