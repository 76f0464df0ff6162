"""int8: calibrated on the corpus's own chunks, told, kept, and refused where it loses too much."""

from importlib.util import find_spec

import lance
import numpy as np
import pyarrow as pa
import pytest
import tiny_models
from running import WORDS, configured, run_index, run_rerank, write_jsonl
from test_encoder import KINDS, described, reference
from test_openvino import means, printed_by

from pipelines.calibrating import _spread, _thin
from pipelines.config_file import parse_config
from pipelines.errors import ModelError, NotPublished, UsageError
from pipelines.models.computing import choose
from pipelines.models.encoder import Encoder
from pipelines.models.processor import resolve_dtype
from pipelines.models.quantised import calibrate, neighbours_kept
from pipelines.models.tokens import Tokenize

# Looked for and not imported: its telemetry has a thread, and tests fork this process.
pytestmark = pytest.mark.skipif(find_spec("nncf") is None, reason="needs the extra int8")


def texts(count):
    drawn = [np.random.default_rng(n) for n in range(count)]
    return [f"{' '.join(rng.choice(WORDS, 3 + n % 9))} {n}." for n, rng in enumerate(drawn)]


def corpus(folder, count, doubled=0):
    rows = [{"id": f"d{n:04}", "text": text} for n, text in enumerate(texts(count))]
    rows += [{"id": f"e{n:04}", "text": rows[n]["text"]} for n in range(doubled)]
    write_jsonl(folder / "corpus.jsonl", rows)


def int8(folder, encoder, least=0.0, **sections):
    return configured(
        folder, encoder, encoder={"dtype": "int8"}, index={"min_recall": least}, **sections
    )


def vectors_of(folder):
    table = lance.dataset(str(folder / "index" / "chunks.lance")).to_table()
    table = table.sort_by("doc_id")
    return np.array(table["vector"].to_pylist(), np.float32)


@pytest.mark.slow
def test_a_run_in_int8(cluster, small_encoder, tmp_path):
    corpus(tmp_path, 300, doubled=5)
    summary = run_index(int8(tmp_path, small_encoder))
    assert (summary.models["backend"], summary.models["dtype"]) == ("openvino", "int8")
    found = summary.models["int8"]
    # Each passage once; of 300 one half calibrates, and the other one is compared.
    assert found["texts"] == 150
    assert 0 < found["least_cosine"] <= found["mean_cosine"] <= 1
    assert 0 < found["neighbours_kept"] < 1
    vectors = vectors_of(tmp_path)
    exact = reference(described(small_encoder)).encode(texts(300))
    near = (vectors[:300] * exact).sum(1)
    assert near.mean() == pytest.approx(found["mean_cosine"], abs=0.01)
    assert near.max() < 1 - 1e-7  # it is no copy of the float32 ones

    # What was calibrated is kept: a later run computes the same vector for the same passage.
    (kept,) = (tmp_path / "index" / "_tandem" / "chunks" / "int8").glob("*")
    made = kept.stat().st_ino
    corpus(tmp_path, 310)
    again = run_index(int8(tmp_path, small_encoder))
    assert again.encoded == 10
    assert again.models["int8"] == found
    assert kept.stat().st_ino == made

    # What is wanted may have become more since.
    corpus(tmp_path, 311)
    with pytest.raises(NotPublished, match="int8 keeps"):
        run_index(int8(tmp_path, small_encoder, least=1.0))

    # Queries are computed in what the processor is best at.
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "q", "query": texts(3)[2]}])
    queries = {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 3}
    config = int8(tmp_path, small_encoder, queries=queries, reranker={"model": "none"})
    assert run_rerank(config).models["encoder_dtype"] == resolve_dtype("auto", "cpu")


def test_what_loses_too_much_is_refused_before_anything_is_written(
    cluster, small_encoder, tmp_path
):
    corpus(tmp_path, 200)
    with pytest.raises(NotPublished, match=r"int8 keeps .*%.* set encoder.dtype to auto"):
        run_index(int8(tmp_path, small_encoder, least=1.0))
    assert not (tmp_path / "index" / "chunks.lance").exists()
    assert not (tmp_path / "index" / "_tandem" / "chunks" / "int8").exists()


@pytest.mark.slow
def test_another_encoder_is_calibrated_anew(cluster, small_encoder, tmp_path):
    corpus(tmp_path, 130)
    run_index(int8(tmp_path, small_encoder))
    folder = tmp_path / "index" / "_tandem" / "chunks" / "int8"
    (first,) = folder.glob("*")
    other = tiny_models.encoder(tmp_path / "other", pooling="cls")
    summary = run_index(int8(tmp_path, other))
    assert summary.rebuild
    assert {first} < set(folder.glob("*"))
    # The first one is still there: a table that is cut in another way is computed the same.
    made = first.stat().st_ino
    summary = run_index(
        int8(tmp_path, small_encoder, chunking={"max_tokens": 20, "overlap_tokens": 0})
    )
    assert summary.rebuild
    assert first.stat().st_ino == made


def test_few_texts_are_too_few(cluster, small_encoder, tmp_path):
    corpus(tmp_path, 5)
    with pytest.raises(UsageError, match="128 different chunks at least, and there are 5"):
        run_index(int8(tmp_path, small_encoder))


@pytest.mark.slow
def test_what_the_table_has_calibrates_too(cluster, small_encoder, tmp_path):
    corpus(tmp_path, 200)
    run_index(configured(tmp_path, small_encoder))
    corpus(tmp_path, 203)
    summary = run_index(int8(tmp_path, small_encoder))
    assert summary.encoded == 3
    # Those of the table and the three new ones: one half of 203.
    assert summary.models["int8"]["texts"] in (101, 102)


def test_a_sample_of_documents_is_never_empty():
    for count in (1, 7, 5000):
        hashes = [bytes([n % 251, n % 256]) + bytes(14) for n in range(1, count + 1)]
        keys = pa.table({"doc_hash": pa.array(hashes, pa.binary(16))})
        assert _thin(1.0, keys, None).num_rows == count
        assert 1 <= _thin(1e-9, keys).num_rows <= max(count // 50, 1)
    equal = pa.table({"doc_hash": pa.array([b"x" * 16] * 100, pa.binary(16))})
    assert _thin(0.01, equal).num_rows == 100
    assert 0.2 < _thin(0.3, keys).num_rows / 5000 < 0.4
    assert _spread([0, 5, 0, 7]) == [1, 3]
    assert _spread([1000] * 100) == [0, 14, 28, 42, 56, 70, 84, 99]
    assert _spread([1] * 100) == list(range(100))


@pytest.mark.slow
def test_the_bundled_encoder_keeps_most_neighbours():
    spec = described(tiny_models.bundled_encoder())
    tokens, _ = Tokenize(spec.tokenizer, spec.max_tokens)(texts(400))
    made = calibrate(spec, tokens, "cosine", 2)
    assert made.mean_cosine > 0.97
    assert made.kept > 0.7  # sentences of thirteen words lie close together


NEARNESS = {
    "cosine": lambda query, vectors: vectors @ query / np.linalg.norm(vectors, axis=1),
    "dot": lambda query, vectors: vectors @ query,
    "l2": lambda query, vectors: -np.linalg.norm(vectors - query, axis=1),
}


@pytest.mark.parametrize("metric", sorted(NEARNESS))
def test_neighbours_that_stay(metric):
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(50, 8)).astype(np.float32)
    assert neighbours_kept(exact, exact, metric) == 1
    assert (neighbours_kept(exact, 3 * exact, metric) == 1) == (metric != "l2")
    # Of two others both are always the nearest two, whatever the vectors are.
    assert neighbours_kept(exact[:3], exact[3:6], metric) == 1
    by_hand = []
    noisy = exact + rng.normal(size=exact.shape).astype(np.float32)
    for row in range(50):
        ranked = [
            [other for other in np.argsort(-NEARNESS[metric](exact[row], v)) if other != row][:10]
            for v in (exact, noisy)
        ]
        by_hand.append(len(set(ranked[0]) & set(ranked[1])) / 10)
    assert neighbours_kept(exact, noisy, metric) == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize(
    ("backend", "has", "kind", "says"),
    [
        ("auto", means(gpu=True, nncf=True), "prompts", "int8, .* is for processors"),
        ("auto", means(), "prompts", r"pip install 'tandem-retrieval\[int8\]'"),
        ("auto", means(nncf=True), "dense", "set dtype and backend to auto"),
        ("torch", means(nncf=True), "prompts", "nothing that the backend torch has"),
    ],
)
def test_where_it_cannot_be(backend, has, kind, says, tmp_path):
    spec = described(tiny_models.encoder(tmp_path / kind, **KINDS[kind]))
    with pytest.raises(ModelError, match=says):
        choose(backend, "int8", has, spec)


def test_an_encoder_in_int8_needs_what_was_calibrated(small_encoder):
    with pytest.raises(ValueError, match="calibrated"):
        Encoder(described(small_encoder), dtype="int8", device="cpu")


def test_a_reranker_has_no_int8():
    with pytest.raises(UsageError, match=r"reranker\.dtype"):
        parse_config({"table": {"uri": "x"}, "reranker": {"dtype": "int8"}})


QUIET = """
import sys
from pipelines.models.load import describe_encoder, locate
from pipelines.models.quantised import quantise
from pipelines.models.tokens import Tokenize
spec = describe_encoder(locate(sys.argv[1], None, "encoder"))
quantise(spec, Tokenize(spec.tokenizer, 32)(["one", "two three"])[0])
names = [name for name, module in sys.modules.items() if module is not None]
print([name for name in names if name.startswith("openvino_telemetry")], "nncf" in names)
"""


def test_nobody_is_told_what_runs(small_encoder):
    assert printed_by(QUIET, small_encoder) == "[] True\n"
