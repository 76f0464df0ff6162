"""All arms of a run against the judgements, each compared with the first stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.report.metrics import PRIMARY, Qrels, Run, means, measure
from pipelines.report.significance import Comparison, compare

FIRST = "retrieved"
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Judgement:
    """What the judgements say of the arms.

    Attributes:
        queries: judged queries; one that an arm does not answer counts 0 there.
        judgements: how many there are.
        means: each measure by arm.
        by_query: the primary measure by arm and query.
        comparisons: on the primary measure, of every other arm with the first stage.
    """

    queries: int
    judgements: int
    means: dict[str, dict[str, float]]
    by_query: dict[str, dict[str, float]]
    comparisons: dict[str, Comparison]

    def verdict(self, arm: str) -> str:
        """One sentence: did an arm help?"""
        found = self.comparisons[arm]
        counts = f"{found.wins} wins, {found.ties} ties, {found.losses} losses"
        if not found.difference:
            return f"{arm.capitalize()} left {PRIMARY} of retrieved as it was: {counts}."
        better = "raised" if found.difference > 0 else "lowered"
        sure = "" if found.p_value < SIGNIFICANT else ", which may be chance"
        return (
            f"{arm.capitalize()} {better} {PRIMARY} by {abs(found.difference):.4f} over retrieved "
            f"(p = {found.p_value:.4f}{sure}): {counts} of {self.queries} queries."
        )


def judge(qrels: Qrels, runs: Mapping[str, Run]) -> Judgement:
    """Judge the runs, which must hold the first stage's."""
    values = {arm: measure(qrels, run) for arm, run in runs.items()}
    by_query = {arm: found[PRIMARY] for arm, found in values.items()}
    return Judgement(
        queries=len(qrels),
        judgements=sum(len(grades) for grades in qrels.values()),
        means={arm: means(found) for arm, found in values.items()},
        by_query=by_query,
        comparisons={
            arm: compare(by_query[FIRST], found) for arm, found in by_query.items() if arm != FIRST
        },
    )
