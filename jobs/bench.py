"""`tandem bench`: how fast this machine is, and how near that is to what it can be."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.display import Display, duration, show_table, stdout
from jobs.ending import ending
from jobs.options import JsonOption
from pipelines.summary import require_writable

if TYPE_CHECKING:
    from pipelines.bench.flow import BenchSummary


def bench(
    json: JsonOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw rates and share of the peak by length of texts, as an SVG file.",
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append the figures to a Markdown file, and write them as JSON into the folder "
            "of its name.",
        ),
    ] = None,
    full: bool = typer.Option(False, help="More texts and more repeats: the long form."),
) -> None:
    """Measure both stages and whole jobs, beside sentence-transformers and the device's peak."""
    from pipelines.bench.flow import BenchSummary, bench_size
    from pipelines.bench.flow import bench as flow
    from pipelines.bench.log import keep
    from pipelines.bench.plot import plot as drawn

    summary = BenchSummary()
    with ending(summary, json):
        for path, option in ((plot, "--plot"), (log, "--log")):
            if path is not None:
                require_writable(path, option)
        flow(bench_size(full=full), summary, Display())
        show_bench(summary)
        if plot is not None:
            plot.parent.mkdir(parents=True, exist_ok=True)
            plot.write_text(drawn(asdict(summary)), encoding="utf-8")
        if log is not None:
            stdout().print(f"Kept in {log} and {keep(log, asdict(summary))}.", soft_wrap=True)


def show_bench(summary: BenchSummary) -> None:
    """The tables at the end of a run."""
    from pipelines.bench.tables import notes, tables

    machine, say = summary.machine, stdout().print
    say(
        f"{machine['processor']}: {', '.join(machine['features']) or 'no feature of note'}; "
        f"{machine['cores']} cores, {machine['threads']} threads, {machine['gpu'] or 'no GPU'}; "
        f"torch {machine['torch']}, dtype {machine['dtype']}"
    )
    peaks = ", ".join(f"{rate:,.0f} in {name}" for name, rate in summary.peak_gflops.items())
    say(f"Matrix product, GFLOP/s: {peaks}")
    for table in tables(asdict(summary)):
        show_table(list(table.headings), [list(row) for row in table.rows], f"\n{table.title}")
    say()
    for note in notes(asdict(summary)):
        say(note, soft_wrap=True)
    say(f"Measured in {duration(summary.seconds['total'])}.")
