"""Models of one's own: trained on what a table and a log hold, judged on what was held out."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from deaths import ended, start
from learning import ASKED, DOCUMENTS, MARKED, sections, text_of
from running import (
    configured,
    run_plan,
    run_rerank,
    run_train,
    write_config,
)
from sentence_transformers import CrossEncoder, SentenceTransformer
from tiny_models import bundled_encoder
from typer.testing import CliRunner

from jobs.__main__ import app
from pipelines.progress import Silent
from pipelines.queries.outputs import weight_in
from pipelines.queries.runs import read_run
from pipelines.rerank_job import RerankRequest
from pipelines.reranking import rerank
from pipelines.summary import RerankSummary
from pipelines.train.record import read_record
from pipelines.train_summary import TrainSummary

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def trained(asked, small_scorer):
    """A reranker that was trained on the judgements by the README's command, and its summary."""
    command = "tandem train tandem.yaml --set train.output=models/ours"
    assert f"\n{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    write_config(asked, "bundled", **sections(asked, asked / "none", start=str(small_scorer)))
    words = [*shlex.split(command)[1:], "--json", "train.json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(asked)
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    summary = TrainSummary(**json.loads((asked / "train.json").read_text()))
    assert {"Step 0,", f"Step {summary.steps}, on held out"} <= set(
        re.findall(r"^Step 0,|^Step \d+, on held out", result.output, re.MULTILINE)
    )
    fused = "Fused are the cosine and 0.2 times the logit."
    for said in (summary.verdict, summary.output, "Calibrated: expected error", fused):
        assert said in result.output
    return summary


def test_a_reranker_learns_from_judgements_and_is_judged_on_others(asked, trained):
    assert trained.helps
    assert trained.figures["reranked"]["nDCG@10"] > trained.figures["retrieved"]["nDCG@10"] + 0.1
    assert re.match(r"Better than the first stage on held out queries: ", trained.verdict)
    data = trained.data
    assert data["by_source"] == {"judgements": data["queries"]}
    assert data["queries"] + data["held_out"] + data["left_out"] == MARKED * ASKED
    assert data["held_out"] == round(0.34 * MARKED * ASKED)
    steps = [entry["step"] for entry in trained.history]
    assert steps[0] == 0
    assert steps[-1] == trained.steps == data["groups"] // 8 * 6
    first, best = trained.history[0], max(trained.history, key=lambda entry: entry["held_out"])
    assert best["held_out"] > first["held_out"]
    assert not (asked / "models" / "ours.work").exists()
    parts = list((asked / "models" / "ours").iterdir())
    assert {path.stat().st_mode for path in parts} == {(asked / "train.json").stat().st_mode}
    assert not list((asked / "models").glob(".ours.lease*"))


def test_the_model_is_one_of_sentence_transformers_with_a_card(asked, trained):
    model = CrossEncoder(str(asked / "models" / "ours"), device="cpu")
    right, wrong = model.predict([("q", text_of(0)), ("q", text_of(MARKED + 1))])
    assert right > wrong
    card = (asked / "models" / "ours" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["pipeline_tag"] == "text-ranking"
    assert "license" not in head
    assert "No licence was given" in card
    for said in (
        trained.verdict,
        trained.models["trained_digest"],
        trained.models["start_digest"],
        f"{trained.data['held_out']} queries\nwere held out",
        "learning_rate: 0.005",
        "the bi-encoder's cosine and 0.2 times the logit.",
        "output: ours\n",
    ):
        assert said in card, said
    assert str(asked) not in card  # where it was made helps nobody who reads it


def test_a_rerank_run_reports_calibrated_probabilities(asked, trained, tmp_path):
    shutil.copytree(asked / "index", tmp_path / "index")
    shutil.copy(asked / "log.jsonl", tmp_path)
    more = sections(asked, tmp_path / "none")
    more["reranker"] = {"model": str(asked / "models" / "ours"), "max_length": 64}
    run_rerank(configured(tmp_path, "bundled", **more))
    rows = pq.read_table(tmp_path / "run" / "reranked.parquet")
    weight, scores = trained.fusion_weight, read_run(tmp_path / "run" / "fused.trec")
    assert weight_in(rows.schema) == weight == 0.2
    means = rows.group_by("query_id").aggregate([("logit", "mean")])
    mean = dict(zip(*(column.to_pylist() for column in means.columns), strict=True))
    for row in rows.to_pylist():
        expected = row["first_score"] + weight * (row["logit"] - mean[row["query_id"]])
        assert scores[row["query_id"]][row["doc_id"]] == pytest.approx(expected, abs=1e-4)
    found = trained.calibration
    logits = rows["logit"].to_numpy().astype(float)
    expected = 1 / (1 + np.exp(-(logits - found["offset"]) / found["temperature"]))
    np.testing.assert_allclose(rows["probability"].to_numpy(), expected, atol=1e-5)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    record = read_record(asked / "models" / "ours")
    assert record.read_as == {"aggregate": "max", "max_chunks": 16, "max_length": 64}
    assert record.sentence(record.read_as) in page
    assert "Fused: the cosine of the search and 0.2 times the logit" in page
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["models"]["fusion_weight"] == 0.2
    used = summary["learnt_queries"]
    assert used == trained.data["queries"] + trained.data["held_out"] // 2
    file = write_config(tmp_path, "bundled", **more)
    result = CliRunner().invoke(app, ["evaluate", str(file), "--json", str(tmp_path / "out.json")])
    assert f"{used} of these {MARKED * ASKED} queries were used to train a model" in result.output
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["learnt_queries"] == used
    others = told["unlearnt"]
    assert others["judged_queries"] == MARKED * ASKED - used
    assert others["by_query"]["fused"].items() < told["by_query"]["fused"].items()
    assert f"{used} of the queries were used to train" in page
    assert "off by" in record.sentence(record.read_as)
    otherwise = record.sentence(record.read_as | {"aggregate": "mean"})
    assert "calibrated with aggregate max, max_chunks 16, max_length 64, and this run" in otherwise


@pytest.mark.slow
def test_a_reranker_that_did_not_help_is_kept_and_warned_of(asked, small_scorer, tmp_path):
    out = tmp_path / "model"
    train = {"start": str(small_scorer), "learning_rate": 1e-9, "epochs": 1}
    config = sections(asked, out, **train)
    # The first stage finds every topic: a reranker can only harm.
    config["queries"]["qrels"] = str(asked / "topics.tsv")
    found = run_train(configured(asked, "bundled", **config))
    assert not found.helps
    assert found.verdict.startswith("Not better than the first stage")
    assert found.verdict.endswith("than the model that training started from, which is kept.")
    assert found.recommended == "retrieved"
    assert read_record(out).helps is False
    shutil.copytree(asked / "index", tmp_path / "index")
    config["reranker"] = {"model": str(out), "max_length": 64}
    said = []

    class Said(Silent):
        def say(self, line):
            said.append(line)

    asks = RerankRequest(limit=2)
    rerank(configured(tmp_path, "bundled", **config), RerankSummary(), Said(), asks)
    assert any(f"BEWARE: {found.verdict}" in line for line in said)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Not better than the first stage" in page


@pytest.mark.slow
def test_an_encoder_is_trained_judged_by_search_and_is_a_rebuild(asked, tmp_path):
    out = tmp_path / "encoder"
    train = {"kind": "encoder", "epochs": 7, "learning_rate": 5e-4, "negatives": 2, "seed": 1}
    frozen = {"frozen_layers": 4, "evaluate_every": 10}
    config = configured(asked, "bundled", **sections(asked, out, **train, **frozen))
    found = run_train(config)
    assert set(found.figures) == {"before", "trained"}
    # All passages are among the first hundred; the order can get better.
    assert found.figures["before"]["R@100"] == found.figures["trained"]["R@100"] == 1.0
    assert found.figures["trained"]["nDCG@10"] > found.figures["before"]["nDCG@10"]
    assert found.helps
    assert re.match(r"Better than the encoder that it came from: R@100 \+0.0000", found.verdict)
    model = SentenceTransformer(str(out), device="cpu")
    assert model.max_seq_length == SentenceTransformer(bundled_encoder()).max_seq_length
    shutil.copytree(asked / "index", tmp_path / "index")
    shutil.copy(asked / "corpus.jsonl", tmp_path)
    plan = run_plan(configured(tmp_path, out))
    assert plan.rebuild
    assert "encoder.weights" in plan.reasons
    assert plan.encoded == len({text_of(n) for n in range(DOCUMENTS)}) + MARKED


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [2, 3])
def test_killed_and_run_again_it_ends_the_same(
    asked, trained, cluster, small_scorer, tmp_path, checkpoints
):
    """Killed in the middle, or when all is learnt and nothing is saved yet."""
    shutil.copytree(asked / "index", tmp_path / "index")
    out = tmp_path / "reranker"
    file = write_config(tmp_path, "bundled", **sections(asked, out, start=str(small_scorer)))
    work = tmp_path / "reranker.work"
    plan = {
        "ledger": checkpoints,
        "pattern": "*/checkpoints/checkpoint-*/complete",
        "folder": str(work),
    }
    code, said = ended(start(cluster, plan, "train", file))
    assert code == -9, said
    assert not out.exists()
    # What one leaves that dies while it puts the model in place does not stand in the way.
    (tmp_path / ".reranker.new").mkdir()
    (tmp_path / ".reranker.new" / "config.json").write_text("half")
    assert goes_on_to_the_same(cluster, file, asked, trained) == trained.history


def goes_on_to_the_same(cluster, file, asked, trained):
    """Run again, it ends with the model of a training that nobody stopped; its history."""
    code, said = ended(start(cluster, {}, "train", file, "--json", file.parent / "out.json"))
    assert code == 0, said
    assert "Going on" in said
    summary = json.loads((file.parent / "out.json").read_text())
    assert summary["figures"] == trained.figures
    same = [file.parent / "reranker", asked / "models" / "ours"]
    weights = [(folder / "model.safetensors").read_bytes() for folder in same]
    assert weights[0] == weights[1]
    return summary["history"]


@pytest.mark.slow
def test_stopped_it_keeps_what_was_learnt_and_ends_the_same(
    asked, trained, cluster, small_scorer, tmp_path
):
    shutil.copytree(asked / "index", tmp_path / "index")
    out = tmp_path / "reranker"
    file = write_config(tmp_path, "bundled", **sections(asked, out, start=str(small_scorer)))
    work = tmp_path / "reranker.work"
    plan = {"ledger": 1, "pattern": "*/checkpoints/checkpoint-*/complete", "folder": str(work)}
    code, said = ended(start(cluster, plan | {"do": "term"}, "train", file))
    assert code == 1, said
    assert "Stopped by SIGTERM; the same command goes on" in said
    kept = sorted(
        int(path.name.rpartition("-")[2]) for path in work.glob("*/checkpoints/checkpoint-*")
    )
    # What was learnt since the last judgement is kept, too.
    assert kept[-1] % 8
    found = goes_on_to_the_same(cluster, file, asked, trained)
    for own, other in zip(found, trained.history, strict=True):
        assert own == pytest.approx(other, abs=2e-4)


def without_dropout(model, folder):
    """A copy of a model that computes the same whenever it learns."""
    shutil.copytree(model, folder)
    network = folder / "config.json"
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    network.write_text(json.dumps(json.loads(network.read_text()) | still))
    return folder


def require_equal_losses(alone, shared, steps=None):
    """The same groups were learnt from in each of the first steps."""
    assert (alone.resources["trainer"]["actors"], shared.resources["trainer"]["actors"]) == (1, 2)
    assert shared.steps == alone.steps
    losses = [[entry["loss"] for entry in one.history[1:]][:steps] for one in (alone, shared)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.slow
def test_several_workers_share_out_each_batch(asked, small_scorer, tmp_path):
    start = without_dropout(small_scorer, tmp_path / "scorer")
    more = sections(asked, tmp_path / "model", start=str(start), epochs=2)
    alone = run_train(configured(asked, "bundled", **more))
    two = {"trainer": {"actors": 2, "cpus": 0.75}}
    shared = run_train(configured(asked, "bundled", **more, resources=two))
    require_equal_losses(alone, shared)


@pytest.mark.slow
def test_several_workers_compare_all_of_an_encoder_s_batch(asked, tmp_path):
    shutil.copytree(asked / "index", tmp_path / "index")
    start = without_dropout(bundled_encoder(), tmp_path / "encoder")
    train = {"kind": "encoder", "start": str(start), "epochs": 2, "negatives": 1, "batch": 4}
    frozen = {"frozen_layers": 4, "evaluate_every": 1, "learning_rate": 1e-4}
    more = sections(asked, tmp_path / "model", **train, **frozen)
    alone = run_train(configured(asked, "bundled", **more))
    more["train"]["output"] = str(tmp_path / "shared")
    more["resources"] = {"trainer": {"actors": 2, "cpus": 0.75}}
    shared = run_train(configured(asked, "bundled", **more))
    require_equal_losses(alone, shared, steps=5)  # then one alone takes what fills no batch, too


@pytest.mark.slow
def test_the_bi_encoder_s_own_weights_get_a_head(asked, tmp_path):
    """As the README's configuration has it, with what a small corpus needs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (shown,) = [own["train"] for own in map(yaml.safe_load, pages) if "train" in own]
    assert (shown["start"], shown["sources"]) == ("encoder", {"judgements": 1, "passages": 0.5})
    small = {"made": {"least_characters": 20}, "epochs": 1, "learning_rate": 1e-4}
    more = sections(asked, tmp_path / "ours", **small, max_length=32, frozen_layers=4)
    more["train"] |= {name: shown[name] for name in ("start", "sources", "queries", "negatives")}
    found = run_train(configured(asked, "bundled", **more))
    assert found.models["start_digest"] == found.models["encoder_digest"]
    assert set(found.data["by_source"]) == {"judgements", "passages"}
    # A head that nobody trained is no model to fall back on.
    assert "which is kept" not in found.verdict
    model = CrossEncoder(str(tmp_path / "ours"), device="cpu")
    assert model.predict([("q", text_of(0)), ("q", text_of(1))]).shape == (2,)
    assert model.max_seq_length == 512  # and not what it read while it learnt
