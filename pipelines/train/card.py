"""The model card that a training writes: verdict, figures, data, intended use and recipe."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config_train import Train

if TYPE_CHECKING:
    from pipelines.train_summary import TrainSummary

CARD = "README.md"


def card(summary: TrainSummary, settings: Train, recipe: str) -> str:
    """The page, in Markdown with the hub's header; `recipe` is the configuration, resolved."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, undefined=StrictUndefined, autoescape=False)  # noqa: S701 - no HTML
    columns = [name for name in summary.history[0] if name != "held_out"]
    columns += [name for name in summary.history[-1] if name not in (*columns, "held_out")]
    measures = list(next(iter(summary.figures.values())))
    by_source = summary.data["by_source"]
    gpus = summary.resources["trainer"]["actor_gpus"]
    return pages.get_template("card.md").render(
        name=Path(settings.output).name,
        kind=settings.kind,
        licence=settings.card.licence,
        language=settings.card.language,
        about_data=settings.card.data,
        intended_use=settings.card.intended_use,
        start=_named(summary.models["start"]),
        encoder=_named(summary.models["encoder"]),
        models=summary.models,
        verdict=summary.verdict,
        recommended=summary.recommended,
        columns=columns,
        history=[[_cell(row.get(name)) for name in columns] for row in summary.history],
        measures=measures,
        figures=[
            [arm, *(f"{own[name]:.4f}" for name in measures)]
            for arm, own in summary.figures.items()
        ],
        calibration=summary.calibration,
        data=summary.data,
        sources=", ".join(f"{count} of {source}" for source, count in by_source.items()),
        live=summary.live,
        steps=summary.steps,
        device="GPU" if gpus else "CPU",
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        recipe=recipe,
    )


def _named(model: str) -> str:
    """A model's name; of a folder the last part, since where it stood helps nobody."""
    return Path(model).name if Path(model).is_absolute() else model


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"
