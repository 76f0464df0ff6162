"""The fourth flow: from what a team has to a model of its own, with a card and a verdict.

    gather -> hold out -> mine -> fit -> judge -> calibrate -> save

Nothing is learnt from held out queries, nor from what answers them. One half of these chooses the
best model and calibrates it, the other half judges it. A run that was killed goes on where it was.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial

from pipelines.config import Config
from pipelines.fitting import fit_on_cluster
from pipelines.interrupt import Interrupt
from pipelines.progress import Progress
from pipelines.summary import Clock
from pipelines.table.lease import leased
from pipelines.train.work import Work
from pipelines.train_data import make_data
from pipelines.train_job import prepare
from pipelines.train_summary import TrainSummary
from pipelines.trained import save_trained

_HELD = "The folder {folder} is held by {{holder}}; name another train.output, or wait for it."


def train(
    config: Config,
    summary: TrainSummary,
    progress: Progress,
    interrupt: Interrupt | None = None,
) -> None:
    """Train a model, filling in the summary.

    Raises:
        UsageError: the configuration names what does not exist or cannot be; nothing was written.
        ModelError: a model cannot be fitted, or not like this.
        TableHeld: another run trains into the folder.
        Interrupted: a signal came; what was learnt is kept.
    """
    interrupt = interrupt or Interrupt()
    clock = Clock(summary.seconds)
    with clock.stage("start"):
        job = prepare(config, progress.say)
    summary.describe(job)
    progress.say(job.announcement())
    lease = job.output.with_name(f".{job.output.name}.lease")
    refusal = _HELD.format(folder=job.output)
    with closing(job.search.tally), leased(lease, summary.run, refusal=refusal):
        work = Work.of(job.output, job.key)
        if work.others:
            progress.say(
                f"{work.others} other training(s) into this folder were begun, with other data or "
                "settings; what they learnt is kept until this one ends."
            )
        if work.facts is None:
            with clock.stage("data"):
                make_data(job, work, progress)
        else:
            progress.say("Going on: the data of an earlier run are taken.")
        summary.data = work.facts or {}
        progress.say(summary.learnt())
        if work.fitted is None:
            with (
                clock.stage("fit"),
                interrupt.draining(job.search.tally.stop),
                progress.track("Fit", "steps", partial(job.search.done, "trained")),
            ):
                fit_on_cluster(job, work, progress)
        with clock.stage("judge"):
            save_trained(job, work, summary)
        work.remove()
