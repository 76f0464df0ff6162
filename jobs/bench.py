"""`tandem bench`: how fast this machine is, and how near that is to what it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from jobs.display import Display, duration, show_table, stdout
from jobs.ending import ending
from jobs.options import JsonOption

if TYPE_CHECKING:
    from pipelines.bench import BenchSummary


def bench(
    json: JsonOption = None,
    full: bool = typer.Option(False, help="More texts and more repeats: the long form."),
) -> None:
    """Measure both stages and whole jobs, beside sentence-transformers and the device's peak."""
    from pipelines.bench import BenchSummary, bench_size
    from pipelines.bench import bench as flow

    summary = BenchSummary()
    with ending(summary, json):
        flow(bench_size(full=full), summary, Display())
        show_bench(summary)


def show_bench(summary: BenchSummary) -> None:
    """The tables at the end of a run."""
    machine, say = summary.machine, stdout().print
    say(
        f"{machine['processor']}: {', '.join(machine['features']) or 'no feature of note'}; "
        f"{machine['cores']} cores, {machine['threads']} threads, {machine['gpu'] or 'no GPU'}; "
        f"torch {machine['torch']}, dtype {machine['dtype']}"
    )
    peaks = ", ".join(f"{rate:,.0f} in {name}" for name, rate in summary.peak_gflops.items())
    say(f"Matrix product, GFLOP/s: {peaks}")
    headings = [
        "a second",
        "tandem",
        "sentence-transformers",
        "ratio",
        "its best",
        "ratio",
        "of peak",
    ]
    rows = [_compared("chunks encoded", summary.encode), _compared("pairs scored", summary.score)]
    show_table(headings, rows)
    say(
        f"Vectors: least cosine to float32 {summary.encode['least_cosine']:.4f}. "
        f"Logits: greatest difference to float32 {summary.score['greatest_logit_difference']:.4f}."
    )
    if summary.job:
        jobs = [_job("index, chunks", summary.job), _job("rerank, pairs", summary.job["rerank"])]
        show_table(["whole job, a second", "job", "stage alone", "share"], jobs)
    say(f"Measured in {duration(summary.seconds['total'])}.")


def _compared(label: str, found: dict[str, Any]) -> list[str]:
    return [
        label,
        f"{found['tandem']:,.0f}",
        f"{found['sentence_transformers']:,.0f}",
        f"{found['ratio']:.2f}",
        f"{found['sentence_transformers_best']:,.0f}",
        f"{found['ratio_to_best']:.2f}",
        f"{found['share_of_peak']:.0%}",
    ]


def _job(label: str, found: dict[str, Any]) -> list[str]:
    rates = [f"{found[name]:,.0f}" for name in ("rate", "stage_rate")]
    return [label, *rates, f"{found['share_of_stage']:.0%}"]
