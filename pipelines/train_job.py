"""What all stages of a training share, found out once at its start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import lance

from pipelines.cluster import TallyActor, one_clock, quiet_ray_data, runner, whole_cluster
from pipelines.config import Config, Queries
from pipelines.config_train import Card
from pipelines.errors import UsageError
from pipelines.gathering import gather, weights_of
from pipelines.index_job import describe_configured
from pipelines.mining import asking
from pipelines.models.specs import EncoderSpec
from pipelines.queries.judgements import judgements, load_judgements
from pipelines.queries.log import read_log
from pipelines.queries.texts import Texts
from pipelines.rerank_job import NO_RERANKER, Job, RerankRequest
from pipelines.rerank_models import REAL_MODELS
from pipelines.resources import Cluster, Stages, plan_stages
from pipelines.stage_table import Watch
from pipelines.summary import require_writable
from pipelines.table.place import Place
from pipelines.table.publish import open_live, require_same_encoder
from pipelines.table.schema import fingerprints_of
from pipelines.table.where import conditions
from pipelines.train.examples import Example, Source, counted
from pipelines.train.start import StartSpec, describe_start

ENCODER = "encoder"
_LIBRARIES = ("accelerate", "datasets")
_NAMES = {"reranker": "a reranker", "encoder": "an encoder"}


@dataclass(frozen=True)
class TrainJob:
    """What all stages share.

    Attributes:
        search: what encodes, retrieves and fetches; its log asks the examples' queries.
        start: the model that training starts from.
        new_head: it gets a head that is yet to be learnt.
        examples: what is known, before any is held out.
        weights: of the sources.
        workers: who fits the model.
        output: the folder of the trained model.
        key: tells what is to be learnt from what and how; equal keys end in equal models.
    """

    config: Config
    search: Job
    start: EncoderSpec | StartSpec
    new_head: bool
    examples: list[Example]
    weights: dict[Source, float]
    workers: Stages
    output: Path
    key: str

    def announcement(self) -> str:
        """What the run is about to do, in two or three sentences."""
        settings = self.config.train
        counts = counted(self.examples)
        listed = ", ".join(f"{count:,} of {source}" for source, count in counts.items())
        head = " with a new head" if self.new_head else ""
        queries = self.config.queries
        unseen = ""
        if self.weights["clicks"] and queries is not None and queries.candidates == "retrieved":
            unseen = (
                "\nAll clicks count alike: what a line of the log showed is read where "
                "queries.candidates is logged or both."
            )
        return (
            f"Training {_NAMES[settings.kind]} from {self.start.name}{head}, into {self.output}.\n"
            f"{len(self.examples):,} queries to learn from: {listed}.{unseen}"
        )


def prepare(config: Config, say: Callable[[str], None]) -> TrainJob:
    """Fit the run to the cluster, gather what there is to learn, and describe the models.

    Raises:
        UsageError: the configuration names what does not exist or cannot be.
    """
    settings = config.train
    for library in _LIBRARIES:
        if find_spec(library) is None:
            raise UsageError(f"Training needs {library}: pip install 'tandem-retrieval[train]'.")
    output = Path(settings.output).resolve()
    _require_output(output)
    quiet_ray_data()
    place, cluster = Place.of(config.table), whole_cluster()
    dataset = open_live(place)
    encoding = plan_stages(cluster, config.resources.encoder, "resources.encoder")
    workers = _workers(cluster, config)
    encoder = describe_configured(config)
    require_same_encoder(fingerprints_of(dataset.schema), encoder.fingerprint, encoder.name)
    start, new_head = _start(config, encoder)
    for folder, used in ((start.folder, "training starts from"), (encoder.folder, "finds here")):
        if output == Path(folder).resolve():
            raise UsageError(
                f"train.output is {settings.output}, the model that {used}; name another."
            )
    path = judgements(config, to_learn=True) if config.queries else None
    qrels = load_judgements(path) if path else {}
    log = None if config.queries is None else read_log(config.queries, None, runner(encoding))
    weights = weights_of(config, log, qrels)
    searching = _searching(config)
    where = conditions(searching.require_queries().filter, dataset.schema)
    examples = gather(config, dataset, log, qrels, weights, where)
    asked, tally = asking(examples), TallyActor()
    search = Job(
        config=searching,
        request=RerankRequest(reuse=False),
        models=REAL_MODELS,
        place=place,
        dataset=dataset,
        log=asked,
        texts=Texts.of(asked),
        qrels={},
        where=where,
        encoder=encoder,
        scorer=None,
        scores=None,
        store=None,
        encoding=encoding,
        scoring=encoding,
        tally=tally,
        watch=Watch(tally.read, one_clock()),
        say=say,
    )
    key = _key(config, dataset, encoder, start, examples, weights, workers.actors)
    return TrainJob(config, search, start, new_head, examples, weights, workers, output, key)


def _workers(cluster: Cluster, config: Config) -> Stages:
    """Who fits the model: each has a share of a batch."""
    found = plan_stages(cluster, config.resources.trainer, "resources.trainer")
    if found.actor_gpus not in (0.0, 1.0):
        raise UsageError(
            f"resources.trainer.gpus is {found.actor_gpus:g}; 1 for each worker is allowed, "
            "and several workers (resources.trainer.actors)."
        )
    if config.train.batch % found.actors:
        raise UsageError(
            f"train.batch is {config.train.batch}; a multiple of the {found.actors} workers of "
            "resources.trainer is allowed."
        )
    return found


def _require_output(output: Path) -> None:
    """The trained model can be written, and what it takes the place of is a model, or nothing."""
    require_writable(output / "model.safetensors", "train.output")
    require_writable(output.with_name(f".{output.name}.new") / "config.json", "train.output")
    there = output.is_dir() and any(output.iterdir())
    if there and not any((output / name).is_file() for name in ("config.json", "modules.json")):
        raise UsageError(
            f"train.output is {output}, a folder that holds something else than a model; name one "
            "that is not there yet."
        )


def _start(config: Config, encoder: EncoderSpec) -> tuple[EncoderSpec | StartSpec, bool]:
    """The model that training starts from, and whether it gets a head."""
    settings, options = config.train, Place.of(config.table).options
    if settings.kind == "encoder":
        if settings.start in (None, ENCODER):
            return encoder, False
        encoder_settings = config.encoder.model_copy(
            update={"model": settings.start, "revision": None}
        )
        return describe_configured(config.model_copy(update={"encoder": encoder_settings})), False
    if settings.start == ENCODER:
        return encoder, True
    own = config.reranker
    name = settings.start or own.model
    if name == NO_RERANKER:
        raise UsageError(
            "reranker.model is none; name the model to start from in train.start, or `encoder` "
            "for the bi-encoder's weights."
        )
    revision = own.revision if settings.start is None else None
    trusted = name in config.trust.remote_code
    found = describe_start(name, revision, options, trust_remote_code=trusted)
    return found, found.new_head


def _searching(config: Config) -> Config:
    """That by which candidates are found: by vectors, beside what is known of documents."""
    usual = Queries(format="jsonl", paths=("-",)) if config.queries is None else config.queries
    queries = usual.model_copy(
        update={"candidates": "both", "hybrid": False, "top_k": config.train.depth}
    )
    alone = config.reranker.model_copy(update={"model": NO_RERANKER})
    return config.model_copy(update={"queries": queries, "reranker": alone})


def _key(
    config: Config,
    dataset: lance.LanceDataset,
    encoder: EncoderSpec,
    start: EncoderSpec | StartSpec,
    examples: list[Example],
    weights: dict[Source, float],
    workers: int,
) -> str:
    whole = blake2b(digest_size=16)
    settings = config.train.model_copy(update={"card": Card(), "output": ""})
    for part in (
        settings.model_dump_json(),
        f"{dataset.uri} {dataset.version}",
        encoder.fingerprint,
        start.fingerprint,
        sorted(weights.items()),
        workers,
        config.queries and config.queries.filter,
        config.reranker.model_copy(update={"model": ""}),
        config.index.metric,
    ):
        whole.update(f"{part}\n".encode())
    for example in examples:
        whole.update(repr(example).encode())
    return whole.hexdigest()
