"""The first flow: from a corpus to a published version of the table.

    read -> plan -> chunk -> encode -> stage -> commit -> index -> gate -> publish

The driver plans on ids and hashes. Documents are then read, cut, encoded and staged by one Ray Data
pipeline, which commits nothing; the driver commits once, checks what it made, and moves `live`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import lance
import pyarrow as pa
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from pipelines import quarantine
from pipelines.cluster import Shared, TallyActor, cluster_nodes, quiet_ray_data
from pipelines.config import Config
from pipelines.corpus.chunk import Chunk, ChunkerSettings, chunker_settings
from pipelines.corpus.plan import Plan, make_plan, require_fields, signatures
from pipelines.corpus.read.pieces import Piece, corpus_pieces, declared_types
from pipelines.corpus.read.ray_source import read_keys, wanted_documents
from pipelines.corpus.read.rows import Mapped
from pipelines.corpus.types import decide_columns
from pipelines.counting import count_chunks, count_documents, require_equation
from pipelines.errors import NotPublished, UsageError
from pipelines.models.load import EncoderSpec, describe_encoder, locate
from pipelines.models.stages import EncodeChunks
from pipelines.progress import Progress
from pipelines.resources import Stages, plan_stages
from pipelines.summary import Clock, IndexSummary
from pipelines.table import gate, ledger, vector_index
from pipelines.table.commit import choose, commit, create_empty, run_key
from pipelines.table.live_rows import LiveRows
from pipelines.table.place import Place
from pipelines.table.publish import Base, live_version, open_base, publish, restore_base
from pipelines.table.reuse import ReuseVectors
from pipelines.table.schema import Fingerprints, metadata_types, table_schema
from pipelines.table.stage import Stage

# About ten seconds of one actor's work, and at least 256 chunks; a GPU does a hundred times more.
_FRAGMENT_ROWS = {"cpu": 1024, "gpu": 131_072}
_LEAST_FRAGMENT_ROWS = 256


@dataclass(frozen=True)
class _Job:
    """What all stages of a run share."""

    config: Config
    place: Place
    spec: EncoderSpec
    chunker: ChunkerSettings
    stages: Stages
    pieces: list[Piece]
    mapped: Mapped
    tally: TallyActor

    @property
    def fingerprints(self) -> Fingerprints:
        spec = self.spec
        chunker = self.chunker.fingerprint()
        return Fingerprints(spec.fingerprint, spec.parts, spec.name, spec.revision, chunker)


def index(config: Config, summary: IndexSummary, progress: Progress) -> None:
    """Bring the table to what the corpus says and publish it, filling in the summary.

    Raises:
        UsageError: the configuration names what does not exist or cannot be; nothing was written.
        NotPublished: the gate, the quarantine limit or an empty corpus held the version back.
        TableHeld: another run committed first.
    """
    clock = Clock(summary.seconds)
    with clock.stage("start"):
        job = _prepare(config)
    summary.models = {"encoder": job.spec.name, "digest": job.spec.fingerprint}
    summary.resources = asdict(job.stages)
    with clock.stage("read"), progress.track("Read", "documents", lambda: (0, 0)):
        keys = read_keys(job.pieces, job.mapped, job.stages)
    require_fields(keys, job.mapped)

    with clock.stage("plan"):
        base = open_base(job.place)
        summary.base_version = summary.version = summary.live = base.live
        live = LiveRows(base.dataset if base.live else None)
        metadata = _metadata(job, base, keys)
        schema = table_schema(job.spec.dimension, metadata, job.fingerprints)
        summary.reasons = _rebuild_reasons(base, schema, job.fingerprints)
        summary.rebuild = bool(summary.reasons)
        hold = config.limits.rejects_hold_deletions
        plan = make_plan(keys, live.documents(), metadata, hold)
        rejects = _rejects(plan, job.pieces, summary.run)
        count_documents(summary, plan)
        require_equation(summary)
    if base.live is not None:
        quarantine.keep(job.place, rejects)
    _require_documents(plan, base, job.place)
    if base.live is None:
        quarantine.keep(job.place, rejects)
    _say_plan(progress, summary, job)
    _require_few_rejects(config, summary)
    if plan.nothing_to_do and not summary.rebuild:
        summary.chunks["unchanged"] = live.rows.num_rows
        progress.say("Nothing to do: the published version is what the corpus makes.")
        return
    _require_whole_rebuild(summary, plan)

    fresh = base.live is None or summary.rebuild
    wanted = plan.kept if fresh else plan.wanted
    with clock.stage("encode"):
        ledger.discard_old(job.place.ledger)
        base = restore_base(job.place, base)
        dataset = base.dataset or create_empty(job.place, schema)
        reads = partial(_encoded, job.tally, wanted.num_rows)
        with progress.track("Encode", "chunks", reads):
            _encode_and_stage(job, summary, base, dataset, live, wanted, schema, metadata, fresh)

    with clock.stage("commit"):
        entries = ledger.read_entries(job.place.ledger, summary.run)
        staged = choose(entries, wanted["doc_id"], wanted["doc_hash"])
        leaving = live.rows if fresh else live.of_documents(plan.changed, plan.gone)
        count_chunks(summary, plan, live.rows, leaving, staged.rows)
        require_equation(summary)
        key = run_key(dataset, schema, staged.rows["chunk_id"], leaving["chunk_id"])
        marks = {"tandem.run": summary.run, "tandem.key": key}
        removed = leaving["_rowaddr"].to_numpy()
        version = commit(job.place, dataset, schema, removed, staged, fresh, marks)
    with clock.stage("index"), progress.track("Index", "rows", lambda: (0, 0)):
        committed = lance.dataset(job.place.dataset, version=version)
        built = vector_index.build_indices(committed, config.index)
        summary.version = built.version
    with clock.stage("gate"):
        known = set() if fresh else {part.fragment_id for part in dataset.get_fragments()}
        verdict = gate.inspect_version(
            built,
            known,
            expected_rows=summary.chunks["new"] + summary.chunks["unchanged"],
            deleted_fraction=len(plan.gone) / max(live.documents().num_rows, 1),
            quarantined_fraction=summary.quarantined / max(plan.rows, 1),
            config=config,
        )
        summary.gate = verdict.summary()
    if not verdict.passed:
        raise NotPublished(
            f"Version {built.version} was not published: {'; '.join(verdict.refusals)}."
        )
    with clock.stage("publish"):
        publish(job.place, built.version, base.live)
        summary.live = live_version(job.place)
        ledger.forget(entries)


def _encode_and_stage(
    job: _Job,
    summary: IndexSummary,
    base: Base,
    dataset: lance.LanceDataset,
    live: LiveRows,
    wanted: pa.Table,
    schema: pa.Schema,
    metadata: dict[str, pa.DataType],
    fresh: bool,
) -> None:
    """The Ray Data pipeline: wanted documents in, staged fragments out, nothing committed."""
    stages, encoder, tell = job.stages, job.config.encoder, job.tally.tell
    if not wanted.num_rows:
        return
    # Tasks of a size of their own are not fused with the reading, so one file feeds all of them.
    tasks = TaskPoolStrategy(size=stages.readers)
    blocks: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}

    documents = wanted_documents(job.pieces, wanted, job.mapped, metadata, stages)
    chunks = documents.map_batches(
        Chunk(job.chunker, metadata, tell), compute=tasks, **blocks, **stages.task
    )
    if base.fingerprints and base.fingerprints.encoder == job.spec.fingerprint:
        reuse = ReuseVectors(dataset, *live.by_hash())
        chunks = chunks.map_batches(reuse, compute=tasks, **blocks, **stages.task)
    encoded = chunks.map_batches(
        EncodeChunks,
        fn_constructor_args=(
            Shared(job.spec),
            encoder.dtype,
            encoder.batch_tokens,
            stages.threads,
            tell,
        ),
        batch_size=_fragment_rows(stages, wanted.num_rows),
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=stages.actors),
        **stages.actor,
    )
    stage = Stage(job.place, summary.run, schema, fresh, tell)
    counts = encoded.map_batches(stage, **blocks, **stages.task).take_all()
    summary.encoded = sum(row["encoded"] for row in counts)
    summary.tokens = sum(row["tokens"] for row in counts)
    summary.cut = sum(row["cut"] for row in counts)
    summary.in_flight = int(job.tally.read()["in_flight"])


def _prepare(config: Config) -> _Job:
    corpus, encoder = config.require_corpus(), config.encoder
    stages = plan_stages(cluster_nodes(), config.resources.encoder, "resources.encoder")
    pieces = corpus_pieces(corpus, stages.readers)
    trusted = encoder.model in config.trust.remote_code
    located = locate(encoder.model, encoder.revision, "encoder")
    spec = describe_encoder(located, prompt=encoder.prompt, trust_remote_code=trusted)
    chunker = chunker_settings(config.chunking, spec.tokenizer, spec.prompt, spec.max_tokens)
    largest = config.limits.max_document_bytes
    mapped = Mapped(corpus.id_column, corpus.text, corpus.title, corpus.metadata, largest)
    quiet_ray_data()
    place = Place.of(config.table)
    return _Job(config, place, spec, chunker, stages, pieces, mapped, TallyActor())


def _metadata(job: _Job, base: Base, keys: pa.Table) -> dict[str, pa.DataType]:
    """The types of the metadata columns: the table's, then those of Parquet, then the values'."""
    corpus = job.config.require_corpus()
    known = metadata_types(base.dataset.schema) if base.live and base.dataset else {}
    return decide_columns(corpus.metadata, signatures(keys), declared_types(corpus) | known)


def _rebuild_reasons(base: Base, schema: pa.Schema, fingerprints: Fingerprints) -> list[str]:
    """Why the published rows cannot stay, by the part that changed; none if they can."""
    if base.live is None or base.dataset is None:
        return []
    reasons = ["encoder"] if base.fingerprints is None else []
    if base.fingerprints is not None:
        reasons = fingerprints.differences(base.fingerprints)
    if metadata_types(base.dataset.schema) != metadata_types(schema):
        reasons.append("corpus.metadata")
    return reasons


def _rejects(plan: Plan, pieces: list[Piece], run: str) -> pa.Table:
    """The rejects as they stand in the quarantine."""
    sources = [pieces[number].source for number in plan.rejects["piece"].to_pylist()]
    columns = {name: plan.rejects[name] for name in ("position", "doc_id", "reason", "message")}
    columns |= {"source": pa.array(sources, pa.string())}
    columns |= {"run": pa.array([run] * len(sources), pa.string())}
    return pa.table([columns[name] for name in quarantine.SCHEMA.names], schema=quarantine.SCHEMA)


def _require_documents(plan: Plan, base: Base, place: Place) -> None:
    if plan.kept.num_rows or plan.held:
        return
    if base.live is None:
        raise UsageError(
            "The corpus holds no document"
            + (f": all {plan.rows} rows were rejected." if plan.rows else ", so there is nothing.")
        )
    what = "The corpus is empty"
    if plan.rows:
        what = f"All {plan.rows} rows of the corpus were rejected"
    raise NotPublished(f"{what}, and the published table {place.name} is not; it was left alone.")


def _require_few_rejects(config: Config, summary: IndexSummary) -> None:
    most = config.limits.max_quarantined_fraction
    if summary.quarantined > most * summary.rows:
        raise NotPublished(
            f"{summary.quarantined} of {summary.rows} rows were rejected, more than "
            f"limits.max_quarantined_fraction ({most:.0%}); `tandem quarantine` lists them."
        )


def _require_whole_rebuild(summary: IndexSummary, plan: Plan) -> None:
    """A rebuild reads every document again; one that is live and cannot be read would be lost."""
    kept = plan.held + plan.protected
    if summary.rebuild and kept:
        raise NotPublished(
            f"{', '.join(summary.reasons)} changed, so the table must be built anew, and {kept} "
            "published documents cannot be read now; mend the rejected rows that "
            "`tandem quarantine` lists, or set limits.rejects_hold_deletions to false."
        )


def _fragment_rows(stages: Stages, documents: int) -> int:
    """Rows of a fragment: ten seconds' work, but no fewer fragments than keep all actors busy."""
    usual = _FRAGMENT_ROWS["gpu" if stages.actor_gpus else "cpu"]
    share = documents // (4 * stages.actors)
    return max(min(usual, share), _LEAST_FRAGMENT_ROWS)


def _encoded(tally: TallyActor, documents: int) -> tuple[float, float]:
    """Chunks encoded, and how many there will be, from those of the documents cut so far."""
    sums = tally.read()
    done = max(sums.get("encoded", 0), sums.get("staged_rows", 0))
    cut = sums.get("documents", 0)
    return done, sums.get("chunks", 0) * documents / cut if cut else documents


def _say_plan(progress: Progress, summary: IndexSummary, job: _Job) -> None:
    counts, stages = summary.documents, job.stages
    progress.say(
        f"{summary.rows} rows: {counts['new']} new, {counts['changed']} changed, "
        f"{counts['gone']} gone, {counts['unchanged']} unchanged, {counts['duplicates']} "
        f"duplicates, {summary.quarantined} rejected."
    )
    if summary.rebuild:
        progress.say(f"Rebuild: {', '.join(summary.reasons)} changed.")
    if counts["held"]:
        progress.say(
            f"{counts['held']} absent documents stay: with a row rejected that has no id, "
            "nothing is taken as deleted."
        )
    where = f"{stages.actor_gpus:g} GPUs" if stages.actor_gpus else f"{stages.threads} threads"
    progress.say(
        f"Encoding with {job.spec.name}: {stages.actors} actor(s) of {where}, chunks of at most "
        f"{job.chunker.max_tokens} tokens."
    )
