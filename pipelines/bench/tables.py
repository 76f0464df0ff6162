"""What a benchmark measured, as tables: the command prints them, the log keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.report.formats import NONE, decimal, share, signed

Figures = Mapping[str, Any]

_LENGTHS = ("short", "mixed", "long")


@dataclass(frozen=True)
class Measured:
    """One comparison of a stage.

    Attributes:
        name: what was measured, short enough for a chart.
        about: the same with what is counted.
        figures: of the summary.
    """

    name: str
    about: str
    figures: Figures


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; the first column says what each row is."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def measured(summary: Figures) -> list[Measured]:
    """The comparisons of a run's summary: the encoder by length of texts, and the scorer."""
    by_length = {**summary["lengths"], "mixed": summary["encode"]}
    found = [
        Measured(name, f"{name} chunks", by_length[name])
        for name in _LENGTHS
        if by_length.get(name)
    ]
    return found + ([Measured("pairs", "pairs", summary["score"])] if summary["score"] else [])


def tables(summary: Figures) -> list[Table]:
    """All that was measured."""
    found = measured(summary)
    made = [_stages(found), _memory(found), _nearness(found)]
    if any(one.figures.get("backends") for one in found):
        made.insert(1, _backends(found))
    if summary["job"]:
        made.append(_jobs(summary["job"]))
    if "questions" in summary["quality"]:
        made.append(_quality(summary["quality"]))
    return made


def notes(summary: Figures) -> list[str]:
    """What was left out and why, and where the stages were slower than the other side."""
    left_out = {
        "Ray Data with lance-ray": summary["job"].get("peers", {}).get("left_out"),
        "nDCG@10 by dtype": summary["quality"].get("left_out"),
    }
    said = [f"{name} is left out: {reason}." for name, reason in left_out.items() if reason]
    slower = [one.name for one in measured(summary) if one.figures["ratio_to_best"] < 1]
    if slower:
        said.append(f"sentence-transformers at its best was faster here: {', '.join(slower)}.")
    return said


def settings_text(figures: Figures) -> str:
    """The settings with which sentence-transformers was fastest."""
    best = figures["best_settings"]
    return f"{best['dtype']}, batch {best['batch_size']}"


def _stages(found: Sequence[Measured]) -> Table:
    return Table(
        "Stages beside sentence-transformers with its defaults (float32, batch 32) and at its "
        "best; short chunks have at most 32 tokens, mixed ones up to 256, long ones 129 to 256",
        (
            *("a second", "tandem", "from texts", "default", "ratio", "best", "ratio"),
            *("best settings", "of peak", "padding"),
        ),
        tuple(
            (
                one.about,
                _rate(one.figures["tandem"]),
                _rate(one.figures["tandem_from_texts"]),
                _rate(one.figures["sentence_transformers"]),
                decimal(one.figures["ratio"], 2),
                _rate(one.figures["sentence_transformers_best"]),
                decimal(one.figures["ratio_to_best"], 2),
                settings_text(one.figures),
                share(one.figures["share_of_peak"]),
                share(one.figures["padding_share"]),
            )
            for one in found
        ),
    )


def _backends(found: Sequence[Measured]) -> Table:
    """What `auto` chose, and what else could compute the same."""
    rows = []
    for one in found:
        if others := one.figures.get("backends"):
            own = {**one.figures, "rate": one.figures["tandem"]}
            chosen = f"{one.figures['backend']}, {one.figures['dtype']}"
            rows += [
                (one.about, name, figures) for name, figures in ((chosen, own), *others.items())
            ]
    return Table(
        "What else can compute them, beside what auto chose (the first of each)",
        ("a second", "computed by", "tandem", "ratio", "least cosine", "mean", "Spearman"),
        tuple(
            (
                about,
                name,
                _rate(figures["rate"]),
                decimal(figures["ratio"], 2),
                *(
                    decimal(figures.get(key), 5)
                    for key in ("least_cosine", "mean_cosine", "spearman")
                ),
            )
            for about, name, figures in rows
        ),
    )


def _memory(found: Sequence[Measured]) -> Table:
    sides = ("tandem", "default", "best")
    cells = [
        [
            one.figures["memory_mb"].get(side, {}).get(key)
            for side in sides
            for key in ("most", "added")
        ]
        for one in found
    ]
    return Table(
        "Memory of the process while each side runs, all models loaded: the most, and what the run "
        "added",
        ("resident, MB", "tandem", "added", "default", "added", "best", "added"),
        tuple(
            (one.about, *(decimal(value, 0) for value in row))
            for one, row in zip(found, cells, strict=True)
        ),
    )


def _nearness(found: Sequence[Measured]) -> Table:
    keys = (
        *("least_cosine", "mean_cosine", "spearman", "least_spearman_of_a_question"),
        "greatest_logit_difference",
    )
    return Table(
        "How near to float32: cosines of vectors; rank correlation of scores",
        (
            "against float32",
            "least cosine",
            "mean",
            "Spearman",
            "least of a question",
            "logit off by",
        ),
        tuple((one.about, *(decimal(one.figures.get(key), 5) for key in keys)) for one in found),
    )


def _jobs(job: Figures) -> Table:
    rows = {"tandem index, chunks": job, "tandem rerank, pairs": job["rerank"]}
    rows |= {name: one for name, one in job["peers"].items() if name != "left_out"}
    return Table(
        "Whole jobs, a second: from the first forward pass, and with the start of workers",
        ("a second", "job", "with start", "stage alone", "share", "largest worker, MB"),
        tuple(
            (
                name,
                _rate(one["rate"]),
                _rate(one["rate_with_start"]),
                _rate(one["stage_rate"]) if "stage_rate" in one else NONE,
                share(one.get("share_of_stage")),
                decimal(one["memory_mb"], 0),
            )
            for name, one in rows.items()
        ),
    )


def _quality(quality: Figures) -> Table:
    dtypes = [name for name in quality["retrieved"] if name != "difference"]
    return Table(
        f"nDCG@10 of {quality['questions']} questions, everything indexed and scored in each dtype",
        ("nDCG@10", *dtypes, "difference"),
        tuple(
            (
                name,
                *(decimal(quality[stage][dtype], 4) for dtype in dtypes),
                signed(quality[stage]["difference"], 4),
            )
            for name, stage in (("first stage", "retrieved"), ("reranked", "reranked"))
        ),
    )


def _rate(value: float) -> str:
    """A rate; with a decimal where it is small."""
    return decimal(value, 0 if value >= 100 else 1)
