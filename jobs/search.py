"""`tandem search`: the documents nearest to one query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from jobs.display import show_table, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.errors import UsageError

_TEXT_SHOWN = 80


@dataclass
class SearchSummary:
    """What was found, best first: doc_id, score, title, text of each."""

    query: str
    live: int | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def search(
    config: ConfigArgument,
    query: Annotated[str, typer.Argument(help="What to search for.")],
    top: Annotated[int, typer.Option(min=1, help="How many documents.")] = 10,
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Search the published version with the bi-encoder."""
    summary = SearchSummary(query)
    with ending(summary, json):
        find(load_config(config, set or ()), summary, top)
        rows = [
            [f"{number}. {hit['doc_id']}", f"{hit['score']:.4f}", _short(hit)]
            for number, hit in enumerate(summary.results, 1)
        ]
        show_table(["document", "score", "text"], rows)
        stdout().print(f"Version {summary.live} of {summary.query!r}.")


def find(config: Config, summary: SearchSummary, top: int) -> None:
    """Encode the query and search `live`, without a cluster."""
    from pipelines.models.encoder import Encoder
    from pipelines.models.load import describe_encoder, locate
    from pipelines.queries.checked_lines import normalise
    from pipelines.queries.passages import quoted
    from pipelines.table.place import Place
    from pipelines.table.publish import open_live, require_same_encoder
    from pipelines.table.schema import fingerprints_of
    from pipelines.table.search import nearest_documents

    text = normalise(summary.query)
    if not text:
        raise UsageError("The query is empty; name something to search for.")
    place = Place.of(config.table)
    dataset = open_live(place)
    settings = config.encoder
    spec = describe_encoder(
        locate(settings.model, settings.revision, "encoder", place.options),
        prompt=settings.prompt,
        trust_remote_code=settings.model in config.trust.remote_code,
    )
    require_same_encoder(fingerprints_of(dataset.schema), spec.fingerprint, spec.name)
    # One text: what starts fastest.
    vector = Encoder(spec, dtype=settings.query_dtype, backend="torch").encode_texts(
        [text], "query"
    )
    summary.live = dataset.version
    found = nearest_documents(dataset, vector[0], top, config.index.metric)
    for doc_id, score in found:
        rows = dataset.to_table(
            columns=["title", "text", "ordinal"], filter=f"doc_id = {quoted(doc_id)}"
        ).sort_by("ordinal")
        first = rows.slice(0, 1).to_pylist()[0]
        summary.results.append(
            {"doc_id": doc_id, "score": score, "title": first["title"], "text": first["text"]}
        )


def _short(hit: dict[str, Any]) -> str:
    text = " ".join(f"{hit['title'] or ''} {hit['text']}".split())
    return text if len(text) <= _TEXT_SHOWN else text[: _TEXT_SHOWN - 1] + "…"
