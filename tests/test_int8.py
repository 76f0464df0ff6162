"""int8: calibrated on the corpus's own chunks, told, kept, and refused where it loses too much."""

import subprocess
import sys

import lance
import numpy as np
import pytest
import tiny_models
from running import WORDS, configured, run_index, run_rerank, write_jsonl
from test_encoder import KINDS, described, reference
from test_openvino import means

from pipelines.config_file import parse_config
from pipelines.errors import ModelError, NotPublished, UsageError
from pipelines.models.computing import choose
from pipelines.models.encoder import Encoder
from pipelines.models.quantised import calibrate, neighbours_kept
from pipelines.models.tokens import Tokenize

pytest.importorskip("nncf", reason="needs the extra int8")


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
    made = kept.stat().st_mtime_ns
    corpus(tmp_path, 310)
    again = run_index(int8(tmp_path, small_encoder))
    assert again.encoded == 10
    assert again.models["int8"] == found
    assert kept.stat().st_mtime_ns == made

    # What is wanted may have become more since.
    corpus(tmp_path, 311)
    with pytest.raises(NotPublished, match="int8 keeps"):
        run_index(int8(tmp_path, small_encoder, least=1.0))

    # Queries are computed in what the processor is best at.
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "q", "query": texts(3)[2]}])
    queries = {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 3}
    config = int8(tmp_path, small_encoder, queries=queries, reranker={"model": "none"})
    assert run_rerank(config).queries == 1


def test_what_loses_too_much_is_refused_before_anything_is_written(
    cluster, small_encoder, tmp_path
):
    corpus(tmp_path, 200)
    with pytest.raises(NotPublished, match=r"int8 keeps .*%.* set encoder.dtype to auto"):
        run_index(int8(tmp_path, small_encoder, least=1.0))
    assert not (tmp_path / "index" / "chunks.lance").exists()
    assert not (tmp_path / "index" / "_tandem" / "chunks" / "int8").exists()


def test_another_encoder_is_calibrated_anew(cluster, small_encoder, tmp_path):
    corpus(tmp_path, 40)
    run_index(int8(tmp_path, small_encoder))
    folder = tmp_path / "index" / "_tandem" / "chunks" / "int8"
    (first,) = folder.glob("*")
    other = tiny_models.encoder(tmp_path / "other", pooling="cls")
    summary = run_index(int8(tmp_path, other))
    assert summary.rebuild
    (second,) = folder.glob("*")
    assert second.name != first.name


def test_a_corpus_of_one_text(cluster, small_encoder, tmp_path):
    corpus(tmp_path, 1)
    summary = run_index(int8(tmp_path, small_encoder, least=0.95))
    assert summary.models["int8"]["texts"] == 1
    assert summary.models["int8"]["neighbours_kept"] == 1


@pytest.mark.slow
def test_the_bundled_encoder_keeps_most_neighbours():
    spec = described(tiny_models.bundled_encoder())
    tokens, _ = Tokenize(spec.tokenizer, spec.max_tokens)(texts(400))
    made = calibrate(spec, tokens, 2, 64)
    assert made.mean_cosine > 0.97
    assert made.kept > 0.7  # sentences of thirteen words lie close together


def test_neighbours_that_stay():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(50, 8)).astype(np.float32)
    assert neighbours_kept(exact, 3 * exact) == 1
    assert neighbours_kept(exact[:1], exact[:1]) == 1
    # Of two others both are always the nearest two, whatever the vectors are.
    assert neighbours_kept(exact[:3], exact[3:6]) == 1
    by_hand = []
    noisy = exact + rng.normal(size=exact.shape).astype(np.float32)
    for row in range(50):
        ranked = [
            [
                other
                for other in np.argsort(-(v / np.linalg.norm(v, axis=1)[:, None]) @ exact[row])
                if other != row
            ][:10]
            for v in (exact, noisy)
        ]
        by_hand.append(len(set(ranked[0]) & set(ranked[1])) / 10)
    assert neighbours_kept(exact, noisy) == pytest.approx(np.mean(by_hand))


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
    told = subprocess.run(
        [sys.executable, "-c", QUIET, str(small_encoder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "[] True\n"
