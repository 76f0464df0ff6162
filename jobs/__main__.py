"""The command line: `tandem COMMAND` and `python -m jobs COMMAND`."""

from __future__ import annotations

import warnings

import typer

from jobs.bench import bench
from jobs.demo import demo
from jobs.evaluate import evaluate
from jobs.index import index
from jobs.init import init
from jobs.models import models
from jobs.plan import plan
from jobs.publish import publish
from jobs.quarantine import quarantine
from jobs.rerank import rerank
from jobs.rollback import rollback
from jobs.search import search
from jobs.submit import submit
from jobs.train import train
from jobs.versions import versions

app = typer.Typer(
    name="tandem",
    help="Two-stage retrieval in batch: index a corpus with a bi-encoder, rerank query logs "
    "with a cross-encoder, and judge both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    init,
    plan,
    index,
    publish,
    rollback,
    versions,
    quarantine,
    search,
    rerank,
    evaluate,
    train,
    demo,
    bench,
):
    app.command()(command)
app.add_typer(models, name="models")
# What stands behind the command that is submitted is that command's.
app.command(context_settings={"allow_interspersed_args": False})(submit)


def main() -> None:
    """Run a command and end with its exit code."""
    # Ray starts new interpreters where lance warns of a fork.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    app()


if __name__ == "__main__":
    main()
