"""The model card that a training writes: verdict, figures, data, intended use and recipe."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.config import Config
from pipelines.config_file import resolved

if TYPE_CHECKING:
    from pipelines.train_summary import TrainSummary

CARD = "README.md"
_RECIPE = ("chunking", "encoder", "index", "reranker", "train")


def card(summary: TrainSummary, config: Config) -> str:
    """The page, in Markdown with the hub's header."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    settings = config.train
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
        fusion_weight=summary.fusion_weight,
        fusion_fits=settings.fusion_weight == "auto",
        calibration=summary.calibration,
        data=summary.data,
        sources=", ".join(f"{count} of {source}" for source, count in by_source.items()),
        live=summary.live,
        steps=summary.steps,
        device="GPU" if gpus else "CPU",
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        recipe=_recipe(config),
    )


def _recipe(config: Config) -> str:
    """What made the model what it is, as YAML."""
    sections = yaml.safe_load(resolved(config))
    chosen = {name: _without_places(sections[name]) for name in _RECIPE}
    return yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True).rstrip()


def _without_places(value: Any) -> Any:  # noqa: ANN401 - what YAML holds
    if isinstance(value, dict):
        return {key: _without_places(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_without_places(own) for own in value]
    return _named(value) if isinstance(value, str) else value


def _named(model: str) -> str:
    """A model's name; of a folder the last part, since where it stood helps nobody."""
    return Path(model).name if Path(model).is_absolute() else model


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"
