"""`tandem train`: a reranker or a bi-encoder of one's own."""

from __future__ import annotations

from jobs.display import duration, show_table, stdout
from jobs.ending import ending, interruptible
from jobs.log_lines import progress_of, told_summary
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.train_summary import TrainSummary


def train(config: ConfigArgument, set: SetOption = None, json: JsonOption = None) -> None:
    """Train a reranker or a bi-encoder on judgements, clicks, rerank runs or the table's texts."""
    summary = TrainSummary()
    with ending(summary, json):
        run_train(load_config(config, set or ()), summary)


def run_train(config: Config, summary: TrainSummary) -> None:
    """Run the flow on a cluster and print what it did."""
    from pipelines.cluster import connected

    display = progress_of("train", summary.run)
    with connected():
        from pipelines.training import train as flow

        with interruptible(display.say) as interrupt:
            flow(config, summary, display, interrupt)
        told = told_summary("train", summary)
    if not told:
        show_train(summary)


def show_train(summary: TrainSummary) -> None:
    """The tables at the end of a run."""
    names = [name for name in summary.history[0] if name not in ("step", "loss", "held_out")]
    rows = [
        [str(entry["step"]), *(f"{entry[name]:.4f}" for name in names)] for entry in summary.history
    ]
    show_table(["step", *names], rows, "Held out queries that chose the model")
    measures = list(next(iter(summary.figures.values())))
    show_table(
        ["", *measures],
        [[arm, *(f"{own[name]:.4f}" for name in measures)] for arm, own in summary.figures.items()],
        "\nHeld out queries that judge it",
    )
    say = stdout().print
    say(f"{summary.verdict}", soft_wrap=True)
    if summary.fusion_weight is not None:
        say(f"Fused are the cosine and {summary.fusion_weight:.3g} times the logit.")
    if found := summary.calibration:
        say(
            f"Calibrated: expected error {found['expected_error']:.3f}; best taken for right from "
            f"probability {found['threshold']:.2f} on."
        )
    say(f"{summary.steps:,} steps in {duration(summary.seconds.get('fit', 0.0))}.")
    say(f"Model and card: {summary.output}", soft_wrap=True)
