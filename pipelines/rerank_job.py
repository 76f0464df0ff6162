"""What all stages of a rerank run share, found out once at its start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property

import lance
import numpy as np
import numpy.typing as npt

from pipelines.backend import computing, way
from pipelines.cluster import TallyActor, one_clock, quiet_ray_data, runner, whole_cluster
from pipelines.config import Config, Queries
from pipelines.errors import UsageError
from pipelines.models.computing import Computing
from pipelines.models.fingerprint import ids_digest
from pipelines.models.load import EncoderSpec, ScorerSpec
from pipelines.queries.judgements import judgements, load_judgements
from pipelines.queries.log import Log, read_log
from pipelines.queries.outputs import output_folder
from pipelines.queries.scores import Store, score_place, scorer_key
from pipelines.queries.texts import Texts
from pipelines.rerank_models import RerankModels
from pipelines.resources import Stages, plan_stages
from pipelines.stage_table import Watch
from pipelines.summary import RerankSummary, require_writable
from pipelines.table.place import Place
from pipelines.table.publish import open_live, require_same_encoder
from pipelines.table.schema import fingerprints_of, stored_ids
from pipelines.table.search import Where, full_text_columns
from pipelines.table.where import conditions
from pipelines.train.learnt import learnt_among
from pipelines.train.record import Record, read_record

NO_RERANKER = "none"


@dataclass(frozen=True)
class RerankRequest:
    """What a rerank run is asked for beside its configuration.

    Attributes:
        limit: take the first lines only.
        reuse: take scores of earlier runs, and keep this one's for later ones.
    """

    limit: int | None = None
    reuse: bool = True


@dataclass(frozen=True)
class Job:
    """What all stages of a run share; `scores` is what computes the scorer."""

    config: Config
    request: RerankRequest
    models: RerankModels
    place: Place
    dataset: lance.LanceDataset
    log: Log
    texts: Texts
    qrels: dict[str, dict[str, int]]
    where: Where
    encoder: EncoderSpec
    scorer: ScorerSpec | None
    scores: Computing | None
    store: Store | None
    encoding: Stages
    scoring: Stages
    tally: TallyActor
    watch: Watch
    say: Callable[[str], None]

    @property
    def searches(self) -> bool:
        """Whether anything is searched for."""
        return self.config.require_queries().candidates != "logged"

    @cached_property
    def encodes(self) -> Computing:
        """What computes the vectors of queries.

        Raises:
            ModelError: what is configured cannot be.
        """
        settings = self.config.encoder
        wanted = settings.model_copy(update={"dtype": settings.query_dtype})
        return computing(wanted, self.encoding, self.encoder, self.place.options, self.say)

    @cached_property
    def same_ids(self) -> bool | None:
        """Whether the token ids of the table are the scorer's; None if it has none to take."""
        stored = stored_ids(self.dataset.schema)
        if stored is None or self.scorer is None or self.scorer.tokenizer is None:
            return None
        return stored == ids_digest(self.scorer.tokenizer)

    @cached_property
    def trained(self) -> Record:
        """What the reranker says of its training; one that says nothing may be of any worth."""
        known = None if self.scorer is None else read_record(self.scorer.folder)
        return known or Record("reranker", helps=True, verdict="")

    @cached_property
    def learnt(self) -> npt.NDArray[np.bool_]:
        """Whether the training of a model of this run used a query, by distinct query."""
        folders = [spec.folder for spec in (self.encoder, self.scorer) if spec is not None]
        return learnt_among(self.log.queries["text"].to_pylist(), folders)

    @cached_property
    def fusion_weight(self) -> float | None:
        """What a logit counts beside a cosine of the search, as the reranker's training found.

        None where it found nothing, or where first-stage scores are none of these cosines.
        """
        hybrid, metric = self.config.require_queries().hybrid, self.config.index.metric
        if not self.searches or hybrid or metric != "cosine":
            return None
        return self.trained.weight_beside(self.encoder.fingerprint)

    def done(self, name: str) -> tuple[float, float]:
        """How many rows of a stage are worked on, and of how many."""
        sums = self.tally.read()
        return sums.get(name, 0), sums.get(f"{name}_of", 0)

    def announcement(self) -> str:
        """What the run is about to do, in a sentence."""
        queries = self.config.require_queries()
        rejected = sum(table.num_rows for table in self.log.rejects)
        way = "hybrid search" if queries.hybrid else "vector search"
        source = {"retrieved": way, "logged": "the log's", "both": f"the log's and {way}"}
        return (
            f"{self.log.lines.num_rows:,} lines ask {self.log.queries.num_rows:,} distinct "
            f"queries; {rejected:,} rejected. Candidates: {source[queries.candidates]}, "
            f"{queries.top_k} documents at most.{self._scoring()}{self._used()}"
        )

    def _used(self) -> str:
        count = int(self.learnt.sum())
        used = "of these queries were used to train a model of this run, and prove nothing"
        return f"\nBEWARE: {count:,} {used}." if count else ""

    def _scoring(self) -> str:
        if self.scorer is None or self.scores is None:
            return ""
        chosen = way(self.scores, self.config.reranker, self.scoring, self.scorer)
        ids = {
            None: "",
            True: " The passages' token ids are the table's.",
            False: " The passages are tokenised: the table's ids are another tokeniser's.",
        }
        said = "" if self.trained.helps else f"\nBEWARE: {self.trained.verdict}"
        if self.trained.helps and self.trained.recommended:
            said = f" Its training recommends the {self.trained.recommended} order."
        if self.fusion_weight is not None:
            said += f" Fused are the cosine and {self.fusion_weight:.3g} times the logit."
        return f"\nReranking with {self.scorer.name} {chosen}.{ids[self.same_ids]}{said}"

    def describe(self, summary: RerankSummary) -> None:
        """Put into the summary what is known before the work."""
        summary.live = self.dataset.version
        summary.learnt_queries = int(self.learnt.sum())
        summary.lines, summary.queries = self.log.lines.num_rows, self.log.queries.num_rows
        summary.models = {"encoder": self.encoder.name, "encoder_digest": self.encoder.fingerprint}
        if self.scorer is not None:
            summary.models |= {
                "reranker": self.scorer.name,
                "reranker_digest": self.scorer.fingerprint,
                "label": self.scorer.label,
                "max_length": self.scorer.max_length,
                "fusion_weight": self.fusion_weight,
            }
        if self.searches:
            summary.models |= {
                "encoder_backend": self.encodes.backend,
                "encoder_dtype": self.encodes.dtype,
            }
        if self.scores is not None:
            summary.models["reranker_backend"] = self.scores.backend
        summary.dtype = self.scores.dtype if self.scores else None
        summary.resources = {"encoder": asdict(self.encoding), "scorer": asdict(self.scoring)}


def prepare(
    config: Config,
    request: RerankRequest,
    models: RerankModels,
    run: str,
    say: Callable[[str], None],
) -> Job:
    """Fit the run to the cluster, read the log and describe the models.

    Raises:
        UsageError: the configuration names what does not exist or cannot be.
    """
    quiet_ray_data()
    queries, place = config.require_queries(), Place.of(config.table)
    require_writable(output_folder(config) / "summary.json", "output.path")
    dataset = open_live(place)
    cluster = whole_cluster()
    encoding = plan_stages(cluster, config.resources.encoder, "resources.encoder")
    scoring = plan_stages(cluster, config.resources.scorer, "resources.scorer")
    where = _search_of(queries, dataset)
    path = judgements(config)
    qrels = load_judgements(path) if path else {}
    encoder = models.describe_encoder(config)
    require_same_encoder(fingerprints_of(dataset.schema), encoder.fingerprint, encoder.name)
    scorer, scores, store = None, None, None
    if config.reranker.model != NO_RERANKER:
        scorer = models.describe_scorer(config)
        scores = computing(config.reranker, scoring, scorer, place.options, say)
        key = scorer_key(scorer.fingerprint, scorer.max_length, scores.dtype)
        store = Store(score_place(place), run, key, datetime.now(UTC).date())
    log, tally = read_log(queries, request.limit, runner(encoding)), TallyActor()
    return Job(
        config,
        request,
        models,
        place,
        dataset,
        log,
        Texts.of(log),
        qrels,
        where,
        encoder,
        scorer,
        scores,
        store,
        encoding,
        scoring,
        tally,
        Watch(tally.read, one_clock()),
        say,
    )


def _search_of(queries: Queries, dataset: lance.LanceDataset) -> Where:
    """The conditions of the search, which must be possible."""
    if queries.candidates == "logged":
        return None
    if queries.hybrid and not full_text_columns(dataset):
        raise UsageError(
            "queries.hybrid is true and the published version has no full-text index; set "
            "index.full_text to true and run `tandem index`."
        )
    return conditions(queries.filter, dataset.schema)
