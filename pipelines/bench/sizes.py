"""How much a benchmark measures: in minutes, or in the long form, on a CPU and on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

_SOME_PACKAGES = ("asyncio", "builtins", "email", "http", "logging")
_INSTALLED = ("stdlib", "numpy", "pyarrow", "ray", "torch", "transformers")


@dataclass(frozen=True)
class Sample:
    """How many texts are encoded, and how often.

    Attributes:
        texts: how many.
        repeats: timed turns of each run.
        most_seconds: no other turn begins after so long.
    """

    texts: int
    repeats: int
    most_seconds: float


@dataclass(frozen=True)
class Tries:
    """What is tried to find the best settings of sentence-transformers.

    Attributes:
        rows: texts or pairs that each try computes.
        batch_sizes: those that are tried.
    """

    rows: int = 64
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64)


@dataclass(frozen=True)
class JobSize:
    """What jobs work on.

    Attributes:
        corpus: packages whose documentation strings are indexed.
        top_k: documents that the rerank job takes for each question.
        repeats: how often each job is run, on a table of its own.
        most_seconds: no other repeat begins after so long.
    """

    corpus: tuple[str, ...]
    top_k: int = 5
    repeats: int = 3
    most_seconds: float = 120.0


@dataclass(frozen=True)
class BenchSize:
    """How much is measured.

    Attributes:
        corpus: packages whose documentation strings are the texts.
        texts: how many of them are encoded.
        queries, passages_a_query: what is scored.
        repeats: timed turns of each run.
        most_seconds: a comparison begins no other turn after so long.
        matrix: rows and columns of the matrices whose product is the peak.
        jobs: what whole jobs work on; without it none is run.
        short, long: what is encoded of short texts alone, and of long ones.
        tries: how the best settings of sentence-transformers are looked for.
        quality: packages that are indexed in two dtypes to compare nDCG@10; empty for none.
        long_turns: turns of mixed texts and of pairs take a minute and more each.
    """

    corpus: tuple[str, ...] = ("stdlib",)
    texts: int = 256
    queries: int = 16
    passages_a_query: int = 16
    repeats: int = 5
    most_seconds: float = 90.0
    matrix: int = 2048
    jobs: JobSize | None = None
    short: Sample = Sample(256, 3, 30.0)
    long: Sample = Sample(64, 3, 45.0)
    tries: Tries = Tries()
    quality: tuple[str, ...] = ()
    long_turns: bool = False

    @property
    def samples(self) -> dict[str, Sample]:
        """What is encoded of each distribution of lengths."""
        mixed = Sample(self.texts, self.repeats, self.most_seconds)
        return {"short": self.short, "mixed": mixed, "long": self.long}


ON_CPU = BenchSize(jobs=JobSize(_SOME_PACKAGES))
ON_CPU_FULL = BenchSize(
    corpus=_INSTALLED,  # the standard library has too few texts of some lengths
    texts=20_000,
    queries=200,
    passages_a_query=100,
    repeats=3,
    most_seconds=7200.0,
    long_turns=True,
    jobs=JobSize(("numpy", "ray"), top_k=20, most_seconds=1200.0),
    short=Sample(2400, 5, 600.0),
    long=Sample(600, 5, 1200.0),
    tries=Tries(256, (4, 8, 16, 32, 64, 128)),
    quality=("stdlib",),
)
ON_GPU = BenchSize(
    texts=16_384,
    queries=200,
    passages_a_query=80,
    matrix=8192,
    jobs=JobSize(_INSTALLED, top_k=100),
    short=Sample(32_768, 3, 60.0),
    long=Sample(8192, 3, 60.0),
    tries=Tries(4096, (32, 128, 512, 1024)),
)
ON_GPU_FULL = replace(
    ON_GPU,
    texts=65_536,
    passages_a_query=320,
    repeats=7,
    short=Sample(131_072, 5, 120.0),
    long=Sample(32_768, 5, 120.0),
    tries=Tries(8192, (32, 64, 128, 256, 512, 1024, 2048)),
    quality=("stdlib",),
)
