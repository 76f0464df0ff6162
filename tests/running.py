"""Small corpora, and the flows run on them in the session's Ray."""

import json
from pathlib import Path
from typing import Any

import lancedb
import yaml

from pipelines.config import Config
from pipelines.config_file import parse_config
from pipelines.progress import Silent
from pipelines.summary import IndexSummary, PlanSummary, RerankSummary
from pipelines.table.place import Place
from pipelines.train_summary import TrainSummary

WORDS = [
    "lock",
    "thread",
    "list",
    "sorted",
    "error",
    "releases",
    "holds",
    "iterable",
    "returns",
    "new",
    "file",
    "path",
    "open",
]


def document(number: int, edition: int = 0) -> dict[str, Any]:
    """A document whose text depends on its number and edition."""
    words = [WORDS[(number * 7 + step * (edition + 1)) % len(WORDS)] for step in range(12)]
    return {
        "id": f"d{number:03}",
        "title": f"Document {number}",
        "text": f"{' '.join(words)} {number} {edition}.",
        "lang": "en" if number % 2 else "de",
    }


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def raw_config(folder: Path, encoder: Path, /, **sections: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "corpus": {"format": "jsonl", "paths": [str(folder / "corpus.jsonl")]},
        "table": {"uri": str(folder / "index")},
        "encoder": {"model": str(encoder), "dtype": "float32"},
        "chunking": {"max_tokens": 48, "overlap_tokens": 8},
        "output": {"path": str(folder / "run")},
        "train": {"output": str(folder / "model")},
    }
    for name, values in sections.items():
        raw[name] = raw.get(name, {}) | values
    return raw


def configured(folder: Path, encoder: Path, /, **sections: Any) -> Config:
    return parse_config(raw_config(folder, encoder, **sections))


def write_config(folder: Path, encoder: Path, /, **sections: Any) -> Path:
    path = folder / "tandem.yaml"
    path.write_text(yaml.safe_dump(raw_config(folder, encoder, **sections)), encoding="utf-8")
    return path


def run_index(config: Config, models: Any = None, **asked: Any) -> IndexSummary:
    from pipelines.index_job import REAL_MODELS
    from pipelines.indexing import index
    from pipelines.request import Request

    summary = IndexSummary()
    index(config, summary, Silent(), Request(**asked), models or REAL_MODELS)
    return summary


def run_plan(config: Config, models: Any = None, **asked: Any) -> PlanSummary:
    from pipelines.forecasting import forecast
    from pipelines.index_job import REAL_MODELS
    from pipelines.request import Request

    summary = PlanSummary()
    forecast(config, summary, Silent(), Request(**asked), models or REAL_MODELS)
    return summary


def run_rerank(config: Config, models: Any = None, **asked: Any) -> RerankSummary:
    from pipelines.rerank_job import RerankRequest
    from pipelines.rerank_models import REAL_MODELS
    from pipelines.reranking import rerank

    summary = RerankSummary()
    rerank(config, summary, Silent(), RerankRequest(**asked), models or REAL_MODELS)
    return summary


def run_train(config: Config) -> TrainSummary:
    from pipelines.training import train

    summary = TrainSummary()
    train(config, summary, Silent())
    return summary


SHARES = ("busy", "starting", "waiting_for_input", "waiting_for_output", "finished")


def require_shares(stages: list[Any]) -> None:
    """On one machine all shares are known; together they are a part of the time."""
    for work in stages:
        shares = [getattr(work, name) for name in SHARES]
        assert all(0 <= share <= 1 for share in shares), work
        assert 0 < sum(shares) <= 1.001, work
        assert work.seconds > 0
        assert work.workers >= 1


def place_of(where: Path | Place) -> Place:
    """The table in a folder, or the one that is named."""
    return where if isinstance(where, Place) else Place(str(where / "index"), "chunks")


def live_table(where: Path | Place) -> Any:
    """What a reader with nothing but lancedb opens."""
    place = place_of(where)
    database = lancedb.connect(place.uri, storage_options=place.storage_options)
    table = database.open_table(place.name)
    table.checkout("live")
    return table


def live_rows(where: Path | Place) -> list[dict[str, Any]]:
    """What such a reader sees."""
    table = live_table(where)
    return table.to_arrow().sort_by([("doc_id", "ascending"), ("ordinal", "ascending")]).to_pylist()


def newest_version(where: Path | Place) -> int:
    return int(place_of(where).open().version)
