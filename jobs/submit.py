"""`tandem submit`: run a command as a job of a Ray cluster, and follow it."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from jobs.attending import SubmitSummary, attend
from jobs.display import Display
from jobs.ending import ending, told
from jobs.options import JsonOption
from jobs.submittable import Asked, asked
from pipelines.errors import UsageError
from pipelines.submission import upload
from pipelines.submission.attempts import settle
from pipelines.submission.credentials import require_no_secret
from pipelines.submission.following import Limits
from pipelines.submission.identity import run_name
from pipelines.submission.local_paths import local_keys, warning

_ADDRESS = "http://127.0.0.1:8265"


def submit(
    command: Annotated[
        str,
        typer.Argument(metavar="COMMAND", help="plan, index, publish, rerank, evaluate or train."),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG [OPTIONS]", help="The configuration, and the command's own options."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The cluster's dashboard; without it RAY_API_SERVER_ADDRESS, RAY_ADDRESS where "
            f"it is http, or {_ADDRESS}.",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Tells equal runs apart; without it the date, in UTC.")
    ] = None,
    image_code: Annotated[
        bool,
        typer.Option("--image-code", help="The nodes have the code: upload the configuration."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit the job and leave it alone.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Run a command as a job of a Ray cluster, with this configuration and code, and follow it.

    The same run submitted again is found while it goes on and when it has succeeded.
    """
    try:
        run = asked(command, words or [])
    except UsageError as error:
        raise told(error) from None
    summary = SubmitSummary()
    with ending(summary, json):
        summary.address = dashboard_address(address)
        run_submit(run, summary, key, image_code=image_code, detach=detach)
    # The job's own; also its 2 is told in the summary, for there was a job.
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def dashboard_address(named: str | None) -> str:
    """Where jobs are submitted to: what is named, else what the environment names.

    Raises:
        UsageError: it is no address of a dashboard, or holds a password.
    """
    joined = os.environ.get("RAY_ADDRESS", "")
    address = (
        named
        or os.environ.get("RAY_API_SERVER_ADDRESS")
        or (joined if joined.startswith(("http://", "https://")) else _ADDRESS)
    )
    if "@" in address:
        raise UsageError(
            "--address holds a user or a password; put the cluster's token into RAY_AUTH_TOKEN."
        )
    if not re.fullmatch(r"https?://[^\s?#]+", address):
        raise UsageError(
            f"--address is {address!r}; the address of the cluster's dashboard is allowed, such "
            "as http://head:8265."
        )
    return address.rstrip("/")


def run_submit(
    run: Asked, summary: SubmitSummary, key: str | None, *, image_code: bool, detach: bool
) -> None:
    """Upload what the run needs, start it where it is due, and follow it to its end."""
    display = Display()
    require_no_secret(run.config.model_dump())
    if local := local_keys(run.config, run.opens):
        display.say(warning(local))
    texts = {upload.CONFIG_FILE: upload.as_file(run.config)}
    if run.deleted is not None:
        texts[upload.DELETE_FILE] = run.deleted
    weights = "reranker.model" in run.opens and run.config.reranker.model == "bundled"
    name = run_name(run.command, run.options, texts, key)
    line = upload.entry_point(run.command, run.options)
    from pipelines.submission.job_api import JobApi

    with tempfile.TemporaryDirectory(prefix="tandem-submit-") as folder:
        upload.write_folder(Path(folder), texts, code=not image_code, weights=weights)
        jobs = JobApi(summary.address or _ADDRESS, Path(folder), line)
        standing = settle(jobs, name, display.say, Limits().unanswered)
    attend(jobs, standing, summary, display.say, detach)
