"""What the tests share: one Ray of two CPUs, a small encoder and a small reranker."""

import logging
import os
from pathlib import Path

import pytest

os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# As in a cluster that a command starts: workers without a task are kept.
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
# Metrics are read in some tests, which need not wait ten seconds for each.
os.environ.setdefault("RAY_metrics_report_interval_ms", "2500")


@pytest.fixture(scope="session", autouse=True)
def remembered_models(tmp_path_factory):
    """What is found out about a model is kept for this session only, also by subprocesses."""
    folder = tmp_path_factory.mktemp("remembered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def cluster():
    """One Ray for the whole session; the flows join it."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def standard_library():
    """What is read of it, documents and rejects, each with its module."""
    from pipelines.corpus.read.pydocs import modules, read_module

    return [(module, row) for module in modules(["stdlib"]) for row in read_module(module)]


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory) -> Path:
    import tiny_models

    return tiny_models.encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="session")
def small_scorer(tmp_path_factory) -> Path:
    import tiny_models

    return tiny_models.scorer(tmp_path_factory.mktemp("models") / "scorer")


@pytest.fixture(scope="session")
def published(cluster, small_encoder, tmp_path_factory) -> Path:
    """An index of `deaths.OLD` with vectors of the fake encoder, to be copied."""
    from deaths import OLD, SETTINGS
    from fake_models import fake_models
    from running import configured, run_index, write_jsonl

    folder = tmp_path_factory.mktemp("published")
    write_jsonl(folder / "corpus.jsonl", OLD)
    run_index(configured(folder, small_encoder, **SETTINGS), fake_models())
    return folder / "index"


@pytest.fixture(scope="session")
def asked(cluster, tmp_path_factory) -> Path:
    """A folder with an index, a log of queries, and judgements, to learn from."""
    from learning import index_asked

    folder = tmp_path_factory.mktemp("asked")
    index_asked(folder)
    return folder


@pytest.fixture(scope="session")
def described(cluster, small_encoder, tmp_path_factory) -> str:
    """The description of the small encoder, pickled for processes that shall not load it."""
    import pickle

    from fake_models import fake_models
    from running import configured

    folder = tmp_path_factory.mktemp("described")
    spec = fake_models().describe(configured(folder, small_encoder))
    (folder / "spec.pickle").write_bytes(pickle.dumps(spec))
    return str(folder / "spec.pickle")


@pytest.fixture(scope="session")
def object_store():
    """The endpoint of an object store that this session has to itself."""
    pytest.importorskip("moto", reason="needs moto's server")
    import buckets

    with buckets.serving() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(object_store):
    """A new bucket."""
    import buckets

    return buckets.Bucket.new(object_store)


@pytest.fixture
def dashboard(monkeypatch):
    """A fake dashboard, and no other that this machine happens to name."""
    from fake_dashboard import FakeDashboard, served

    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    fake = FakeDashboard()
    with served(fake) as fake.address:
        yield fake
