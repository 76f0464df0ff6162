"""What came of a training: judged, calibrated, and put in its place with record and card."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import ray

from pipelines.cluster import run_tasks
from pipelines.models.load import describe_encoder, describe_scorer, locate
from pipelines.models.on_node import on_this_node
from pipelines.models.specs import ScorerSpec
from pipelines.report.judged import SIGNIFICANT
from pipelines.report.significance import Comparison, compare
from pipelines.storage.stores import Options
from pipelines.train.calibration import best_threshold, calibrate, calibration_error
from pipelines.train.card import CARD, card
from pipelines.train.judging import ARMS, judge_logits, score_lists, weight_for
from pipelines.train.learnt import keep_learnt
from pipelines.train.record import RECORD, Record, read_as
from pipelines.train.searching import Found, search_held_out
from pipelines.train.work import GROUPS_FILE, POOL_FILE, TUNING_FILE, VERDICT_FILE, Work
from pipelines.train_job import TrainJob
from pipelines.train_summary import TrainSummary

_FIRST, _OWN = "before", "trained"


def save_trained(job: TrainJob, work: Work, summary: TrainSummary) -> None:
    """Judge the fitted model, and move it to where it belongs, its record and its card with it."""
    fitted = work.fitted or {}
    summary.history, summary.steps = fitted["history"], fitted["steps"]
    make = _reranker if job.config.train.kind == "reranker" else _encoder
    record = make(job, work, summary)
    if not fitted["best_step"]:
        kept = " No step did better than the model that training started from, which is kept."
        record = replace(record, verdict=record.verdict + kept)
    summary.helps, summary.verdict = record.helps, record.verdict
    summary.recommended = record.recommended
    located = locate(str(work.model), None, "encoder" if record.kind == "encoder" else "scorer")
    describe = describe_encoder if record.kind == "encoder" else describe_scorer
    trusted = job.start.trust_remote_code
    found = describe(located, trust_remote_code=trusted)
    summary.models["trained_digest"] = found.fingerprint
    if record.calibration is not None and isinstance(found, ScorerSpec):
        record = replace(record, read_as=read_as(job.config.reranker, found.max_length))
    summary.output = str(job.output)
    content = json.dumps(asdict(record), indent=2)
    (work.model / RECORD).write_text(f"{content}\n", encoding="utf-8")
    used = [work.read(name)["query"].to_pylist() for name in (GROUPS_FILE, TUNING_FILE)]
    keep_learnt(work.model, chain(*used), job.start.folder)
    page = card(summary, job.config)
    (work.model / CARD).write_text(page, encoding="utf-8")
    work.bring(job.output)


def _reranker(job: TrainJob, work: Work, summary: TrainSummary) -> Record:
    """Judge a reranker by one half; the tuning half recommends an arm, fuses and calibrates."""
    asked = [work.read(name) for name in (TUNING_FILE, VERDICT_FILE)]
    known = {
        "aggregate": job.config.reranker.aggregate,
        "max_length": job.config.reranker.max_length,
    }
    logits = _on_a_worker(job, score_lists, [(str(work.model), one) for one in asked], known)
    wanted = job.config.train.fusion_weight
    weight = weight_for(asked[0], logits[0], job.config.index.metric, wanted)
    tuning, judged = (
        judge_logits(lists, own, weight) for lists, own in zip(asked, logits, strict=True)
    )
    judgement = judged.judgement
    summary.figures = judgement.means
    summary.comparisons = {arm: asdict(one) for arm, one in judgement.comparisons.items()}
    arm = tuning.best
    learnt: dict[str, Any] = {}
    if weight is not None:
        learnt["fusion"] = {"weight": weight, "encoder": job.search.encoder.fingerprint}
        summary.fusion_weight = weight
    if found := calibrate(tuning.logits, tuning.relevant):
        likely = found.probabilities(judged.logits)
        threshold = best_threshold(found.probabilities(tuning.logits), tuning.relevant)
        error = calibration_error(likely, judged.relevant)
        learnt |= {"calibration": found, "threshold": threshold, "calibration_error": error}
        summary.calibration = asdict(found) | {"threshold": threshold, "expected_error": error}
    if arm == ARMS[0]:
        sentence = (
            "Not better than the first stage: neither the reranked nor the fused order was, where "
            "the model was chosen."
        )
        return Record("reranker", helps=False, verdict=sentence, recommended=arm, **learnt)
    helps = judgement.comparisons[arm].difference > 0
    better = "Better" if helps else "Not better"
    sentence = f"{better} than the first stage on held out queries: {judgement.verdict(arm)}"
    return Record("reranker", helps=helps, verdict=sentence, recommended=arm, **learnt)


def _encoder(job: TrainJob, work: Work, summary: TrainSummary) -> Record:
    """Judge a bi-encoder beside the one that it came from, on the same pool."""
    lists, pool = work.read(VERDICT_FILE), work.read(POOL_FILE)
    known = {"prompt": job.config.encoder.prompt, "metric": job.config.index.metric}
    models = (job.start, str(work.model))
    before, after = _on_a_worker(
        job, search_held_out, [(model, lists, pool) for model in models], known
    )
    summary.figures = {_FIRST: before.means, _OWN: after.means}
    recall = _compared(before, after, "R@100")
    ranking = _compared(before, after, "nDCG@10")
    summary.comparisons = {"R@100": asdict(recall), "nDCG@10": asdict(ranking)}
    helps = (recall.difference, ranking.difference) > (0.0, 0.0) and recall.difference >= 0
    sure = "" if recall.p_value < SIGNIFICANT else ", which may be chance"
    sentence = (
        f"{'Better' if helps else 'Not better'} than the encoder that it came from: R@100 "
        f"{recall.difference:+.4f} (p = {recall.p_value:.4f}{sure}), nDCG@10 "
        f"{ranking.difference:+.4f} (p = {ranking.p_value:.4f}), on {lists.num_rows} held out "
        f"queries and {pool.num_rows:,} passages."
    )
    return Record("encoder", helps=helps, verdict=sentence)


def _compared(before: Found, after: Found, measure: str) -> Comparison:
    return compare(before.by_query[measure], after.by_query[measure])


def _on_a_worker(
    job: TrainJob,
    function: Any,  # noqa: ANN401 - either judge
    arguments: list[tuple[Any, ...]],
    known: dict[str, Any],
) -> list[Any]:
    """Call a function for each tuple, as tasks with what a worker of the training has.

    The first of each tuple is a model: its folder, or what there is to know to find it on a node.
    """
    stages = job.workers
    known = known | {
        "device": "cuda" if stages.actor_gpus else "cpu",
        "threads": stages.threads,
        "trust_remote_code": job.start.trust_remote_code,
    }
    store = job.search.place.options
    refs = run_tasks(_call, [(function, own, known, store) for own in arguments], **stages.actor)
    found: list[Any] = ray.get([ref for (ref,) in refs])
    return found


def _call(
    function: Any,  # noqa: ANN401 - either judge
    own: tuple[Any, ...],
    known: dict[str, Any],
    store: Options,
) -> Any:  # noqa: ANN401
    model, *others = own
    folder = model if isinstance(model, str) else on_this_node(model, store).folder
    return function(folder, *others, **known)
