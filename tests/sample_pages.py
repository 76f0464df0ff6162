"""Pages as a morning might bring them: a bicycle workshop's manual, searched and reranked."""

from dataclasses import replace

import numpy as np

from pipelines.quarantine import Rejected
from pipelines.report.agreement import Band
from pipelines.report.clicks import Clicks
from pipelines.report.evidence import Arm, ArmComparison, DepthSweep, Judged, OrderAgreement
from pipelines.report.explorer import Candidate, Explorer, ExplorerQuery, choose_queries
from pipelines.report.histograms import Lengths, histogram
from pipelines.report.pages import (
    Check,
    Cost,
    Heading,
    IndexPage,
    Model,
    Origin,
    Quarantined,
    RerankPage,
)
from pipelines.report.significance import compare_differences
from pipelines.stage_table import StageWork

HOSTILE = "<script>alert(1)</script>"
MORE_HOSTILE = "</script><img src=x onerror=alert(2)> & \"quotes\" 'n' \u2028 {{ 7 * 7 }}"

PARTS = (
    "bottom bracket",
    "rear derailleur",
    "disc brake",
    "headset",
    "chain",
    "freewheel",
    "spoke",
    "dropper post",
    "hub gear",
    "dynamo",
    "tubeless tyre",
    "crank",
)
ASKED = (
    "how do I adjust a {}",
    "{} makes a noise under load",
    "torque for {}",
    "which grease for a {}",
    "replace {} without special tools",
    "{} worn, how to tell",
    "my {} slips",
    "clean {}",
    "{} play after service",
    "is a {} covered by the warranty when it was fitted at home by the owner",
)
SENTENCES = (
    "Before you begin, put the bicycle in a stand and take the load off the {}.",
    "A dry {} creaks: clean both faces, grease them thinly, and tighten to the value on the part.",
    "Turn the barrel adjuster by a quarter turn at a time and test after each.",
    "Wear shows as play from side to side; compare it with a new {}.",
    "If the {} still moves, the shell is out of round and has to be faced by a workshop.",
    "Use carbon paste, never grease, where either side is carbon fibre.",
)
ORIGIN = Origin(
    configuration=(
        "corpus:\n  format: markdown\n  paths: [manual]\n"
        "reranker:\n  model: bundled\n  max_length: 256\n"
        "queries:\n  format: jsonl\n  paths: [log.jsonl]\n  top_k: 50\n"
    ),
    software={"tandem": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "ray": "2.60.0"},
    models=(
        Model("encoder", "bundled", None, "5d0c3f2a9b6e4c81"),
        Model("reranker", "cross-encoder/ms-marco-MiniLM-L6-v2", "ce0834f", "91b7aa0e33f0d2c4"),
    ),
)


def explorer(number: int = 120, judged: bool = True, words: int = 1) -> Explorer:
    """Queries with thirty candidates each, of which those in either top ten are kept."""
    random = np.random.default_rng(7)
    passages = {
        f"chunk-{place}": "\n".join(
            SENTENCES[(place + turn) % len(SENTENCES)].format(PARTS[place % len(PARTS)])
            for turn in range(2 + place % 9)
        )
        * words
        for place in range(360)
    }
    asked = [pattern.format(part) for part in PARTS for pattern in ASKED]
    texts = [
        asked[place % len(asked)] + " again" * (place // len(asked)) for place in range(number)
    ]
    texts[3:5] = [HOSTILE, MORE_HOSTILE]
    frequency = np.sort(random.zipf(1.7, number).clip(max=900))[::-1].astype(np.int64)
    queries = []
    for place, text in enumerate(texts):
        documents = random.choice(len(passages), 30, replace=False)
        logits = np.sort(random.normal(-2, 4, 30))[::-1]
        first_ranks = 1 + np.argsort(np.arange(30) + random.normal(0, 6, 30)).argsort()
        grades = random.choice([2, 1, 0, -1], 30, p=[0.1, 0.1, 0.3, 0.5])
        candidates = [
            Candidate(
                doc_id=f"manual/{PARTS[document % len(PARTS)].replace(' ', '-')}/{document:03d}.md",
                passage=f"chunk-{document}",
                first_rank=int(first_ranks[rank]),
                first_score=round(0.9 - 0.015 * int(first_ranks[rank]), 4),
                rank=rank + 1,
                logit=float(logits[rank]),
                grade=int(grades[rank]) if judged and grades[rank] >= 0 else None,
                clicks=int(first_ranks[rank] == 1 + place % 4) * (1 + place % 3),
            )
            for rank, document in enumerate(documents.tolist())
            if rank < 10 or first_ranks[rank] <= 10
        ]
        before = float(random.beta(2, 2))
        after = float(np.clip(before + random.normal(0.05, 0.2) * (place % 5 > 0), 0, 1))
        queries.append(
            ExplorerQuery(
                query_id=f"q{place:04d}",
                text=text,
                frequency=int(frequency[place]),
                change=float(random.beta(2, 5)),
                before=before if judged else None,
                after=after if judged else None,
                candidates=tuple(candidates),
            )
        )
    best, *others = queries[6].candidates
    unscored = replace(best, passage=None, rank=None, logit=None)
    queries[6] = replace(queries[6], candidates=(unscored, *others))
    chosen = choose_queries(frequency, np.array([query.change for query in queries]), number)
    return Explorer(
        queries=tuple(queries[place] for place in chosen.tolist()),
        total=number + 1311,
        depth=10,
        passages=passages,
        change_scale="1 − rank-biased overlap of both orders, 0 where nothing moved",
    )


def rerank_page(judged: bool = True) -> RerankPage:
    """Everything at once; without judgements, what a log alone gives."""
    random = np.random.default_rng(5)
    relevant, other = random.normal(3, 2.5, 640), random.normal(-4, 3, 11_300)
    scores = {"other": other, "relevant": relevant} if judged else {"all pairs": other}
    moved = np.minimum(random.geometric(0.12, 4000) - 6, 49)
    tokens = np.rint(random.gamma(4, 32, 11_940).clip(8))
    return RerankPage(
        heading=Heading(
            title="Workshop manual, nightly log",
            run="20251121T041205-3fa91c",
            date="21 November 2025, 04:12 UTC",
            table="chunks in s3://workshop/index",
            live=41,
            verdict="Fusing both orders helped: nDCG@10 rose from 0.519 to 0.584, hardly by "
            "chance (p = 0.0042); 15 of 66 judged queries are worse."
            if judged
            else "Reranking changed the first place of 38.2% of the queries; there are no "
            "judgements that say whether for the better.",
            warnings=(
                "3 lines of the log had no text and stand in the quarantine.",
                f"The query {HOSTILE} was asked 12 times.",
            ),
        ),
        lines=14_339,
        queries=1431,
        seconds={
            "start": 3.2,
            "read": 1.4,
            "candidates": 22.8,
            "tokenise": 9.1,
            "score": 312.4,
            "rank": 2.2,
            "outputs": 1.9,
            "total": 353.0,
        },
        origin=ORIGIN,
        judged=_judged() if judged else None,
        clicks=Clicks(2210, 803, 31, 0.6213, 0.5874, _comparison(-0.03, 0.3, 803)),
        agreement=_agreement(),
        sweep=_sweep() if judged else None,
        scores=histogram(scores),
        displacement=histogram({"documents": moved}, whole=True, last=40, most_bins=60),
        lengths=Lengths(histogram({"passages": tokens}, whole=True, last=320), 12_027, 213, 256),
        explorer=explorer(judged=judged),
        cost=Cost(
            pairs=71_450,
            distinct_pairs=57_160,
            scored=40_012,
            reused=14_290,
            resumed=2858,
            tokens=9_873_120,
            padding=0.031,
            pairs_per_second=128.1,
            device="CPU, 2 threads, avx512_bf16",
            dtype="bfloat16",
        ),
        stages=(
            StageWork("encode queries", 1431, None, 1, 9.2, 0.31, 0.62, 0.01, 0.0, 0.05),
            StageWork("retrieve", 71_550, None, 8, 13.1, 0.83, 0.06, 0.05, 0.0, 0.02),
            StageWork("score", 40_012, 9_873_120, 2, 312.4, 0.962, None, 0.021, 0.004, None),
            StageWork("stage", 40_012, None, 2, 312.4, 0.01, None, 0.98, 0.0, None),
        ),
        quarantine=Quarantined({"no_text": 3, "broken_line": 1}),
    )


def _comparison(mean: float, deviation: float, queries: int):
    differences = np.random.default_rng(3).normal(mean, deviation, queries)
    differences[::4] = 0
    return compare_differences(differences)


def _judged() -> Judged:
    names = ("nDCG@10", "RR@10", "AP", "R@10", "R@100", "Judged@10")
    return Judged(
        queries=66,
        judgements=1204,
        arms=(
            Arm(
                "retrieved", dict(zip(names, (0.519, 0.551, 0.43, 0.66, 0.871, 0.81), strict=True))
            ),
            Arm("reranked", dict(zip(names, (0.571, 0.64, 0.49, 0.702, 0.871, 0.86), strict=True))),
            Arm("fused", dict(zip(names, (0.584, 0.633, 0.502, 0.7149, 0.871, 0.85), strict=True))),
        ),
        comparisons=(
            ArmComparison("reranked", "nDCG@10", _comparison(0.06, 0.2, 66)),
            ArmComparison("fused", "nDCG@10", _comparison(0.08, 0.16, 66)),
        ),
        ceiling_recall=0.871,
        ceiling_depth=50,
        differences=histogram({"queries": np.random.default_rng(3).normal(0.05, 0.2, 66)}, 24),
    )


def _sweep() -> DepthSweep:
    return DepthSweep(
        measure="nDCG@10",
        depths=(10, 20, 50, 100),
        retrieved=0.519,
        reranked=(0.54, 0.556, 0.571, 0.552),
        fused=(0.551, 0.57, 0.584, 0.581),
        ceiling=(0.66, 0.75, 0.871, 0.902),
    )


def _agreement() -> OrderAgreement:
    def band(name: str, queries: int, shift: float) -> Band:
        means: dict[str, float | None] = {
            "overlap@1": 0.618 - shift,
            "overlap@5": 0.66 - shift,
            "overlap@10": 0.702 - shift,
            "RBO": 0.655 - shift,
            "tau": 0.41 - shift if queries > 1 else None,
            "first_changed": 0.382 + shift,
        }
        return Band(name, queries, means)

    return OrderAgreement(
        persistence=0.9,
        overall=band("all", 1431, 0),
        by_frequency=(
            band("once", 900, 0.04),
            band("2-9", 420, 0.01),
            band("10-99", 110, -0.06),
            band("100+", 1, -0.1),
        ),
        by_words=(band("1", 12, -0.12), band("2-3", 600, -0.02), band("4-6", 700, 0.01)),
    )


def index_page() -> IndexPage:
    """An incremental run that the gate refused."""
    random = np.random.default_rng(11)
    time = np.arange(0, 640, 2.0)
    rates = 118 + 9 * np.sin(time / 40) + random.normal(0, 4, len(time))
    rates[:6] = np.linspace(4, 100, 6)
    return IndexPage(
        heading=Heading(
            title="Workshop manual",
            run="20251121T020000-77b0e2",
            date="21 November 2025, 02:00 UTC",
            table="chunks in s3://workshop/index",
            live=41,
            verdict="Version 44 was not published: 31% of the documents go, more than "
            "publish.max_deleted_fraction (20%). Readers still see version 41.",
            warnings=("One file could not be read, so absent documents are held.",),
        ),
        documents={
            "new": 412,
            "changed": 1290,
            "metadata": 77,
            "gone": 4016,
            "unchanged": 9120,
            "duplicates": 18,
            "held": 6,
        },
        chunks={"new": 75_204, "gone": 31_020, "unchanged": 402_311},
        encoded=70_022,
        resumed=5182,
        tokens=11_402_990,
        seconds={"start": 4.1, "read": 61.0, "encode": 640.2, "commit": 2.4, "total": 4005.0},
        origin=ORIGIN,
        base_version=41,
        version=44,
        throughput=tuple(zip(time.tolist(), rates.tolist(), strict=True)),
        lengths=Lengths(
            histogram({"chunks": np.rint(random.normal(190, 50, 70_022).clip(9, 256))}, whole=True),
            75_204,
            0,
            256,
        ),
        checks=(
            Check("Rows", "446,495", "446,495", True),
            Check("Vectors null, zero or not finite", "0", "0", True),
            Check("Recall@10 against exact search", "0.982", "at least 0.95", True),
            Check("Documents deleted", "31.0%", "at most 20%", False),
        ),
        stages=(
            StageWork("read", 1779, None, 2, 640.2, 0.03, 0.01, 0.02, 0.31, 0.63),
            StageWork("chunk", 75_204, None, 2, 640.2, 0.11, 0.02, 0.24, 0.43, 0.19),
            StageWork("encode", 75_204, 11_402_990, 1, 640.2, 0.431, 0.029, 0.51, 0.0, 0.01),
            StageWork("stage", 75_204, None, 2, 640.2, 0.04, 0.03, 0.92, 0.0, 0.0),
        ),
        quarantine=Quarantined(
            {"too_large": 4, "unreadable_file": 1},
            (
                Rejected("manual/legacy.md", 0, None, "unreadable_file", "It is not UTF-8."),
                Rejected(
                    "manual/all.md", 12, "all.md", "too_large", f"{HOSTILE} and 21 MB of text."
                ),
            ),
        ),
    )
