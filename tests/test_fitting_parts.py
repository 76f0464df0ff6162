"""What a fit asks of the trainer, what it makes of its log, and what it saves."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import TrainerState

from pipelines.config_train import Train
from pipelines.models.load import describe_encoder, locate
from pipelines.train.asked import Fit
from pipelines.train.fitting import _arguments, _ended, _history
from pipelines.train.fitting_encoder import EncoderFit
from pipelines.train.fitting_reranker import RerankerFit
from pipelines.train.groups import GROUPS, LISTS
from pipelines.train.searching import POOL
from pipelines.train.start import describe_start
from pipelines.train.work import GROUPS_FILE, POOL_FILE, TUNING_FILE, Work


@pytest.fixture
def asks(tmp_path, small_scorer):
    """A fit of the small scorer, with data in its folder."""
    work = Work.of(tmp_path / "model", "a" * 32)
    group = {"query": "q", "docs": ["right", "wrong"], "labels": [1.0, 0.0], "weight": 1.0}
    tables = {
        GROUPS_FILE: pa.Table.from_pylist([group | {"source": "judgements"}], schema=GROUPS),
        TUNING_FILE: LISTS.empty_table(),
        POOL_FILE: POOL.empty_table(),
    }
    work.keep(tables, {"groups": 1})

    def fit(**settings):
        return Fit(
            folder=str(work.folder),
            settings=Train(**settings),
            start=describe_start(str(small_scorer), None, {}, trust_remote_code=False),
            new_head=False,
            store={},
            steps=24,
            workers=2,
            threads=1,
            gpu=False,
            aggregate="max",
            max_length=None,
            prompt=None,
            metric="cosine",
        )

    return work, fit


def test_the_trainer_is_asked_for_what_the_configuration_says(asks):
    work, fit = asks
    found = _arguments(fit(batch=8, warmup=0.25, learning_rate=3e-4, seed=5), work)
    assert found["max_steps"] == 24
    assert found["eval_steps"] == found["save_steps"] == found["logging_steps"] == 3  # eight times
    assert found["warmup_steps"] == 6
    assert found["per_device_train_batch_size"] == 4
    assert (found["learning_rate"], found["seed"]) == (3e-4, 5)
    assert _arguments(fit(evaluate_every=10), work)["eval_steps"] == 10
    assert _arguments(fit(evaluate_every=100), work)["eval_steps"] == 24
    assert _arguments(fit(dtype="bfloat16"), work)["bf16"] is True
    assert _arguments(fit(dtype="float32"), work)["bf16"] is False


@pytest.mark.parametrize(
    ("step", "without", "over"), [(12, 1, False), (24, 0, True), (12, 2, True)]
)
def test_a_fit_has_ended_by_its_steps_or_by_patience(asks, tmp_path, step, without, over):
    _, fit = asks
    stopping = {"attributes": {"early_stopping_patience_counter": without}}
    state = TrainerState(global_step=step, stateful_callbacks={"EarlyStoppingCallback": stopping})
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    assert (_ended(tmp_path, fit(patience=2)) is not None) is over
    assert _ended(None, fit()) is None


def test_a_loss_is_told_of_all_steps_since_the_last_judgement_wherever_it_was_stopped():
    whole = [
        {"step": 0, "eval_held_out": 0.5, "eval_runtime": 3.0},
        {"step": 10, "loss": 0.7},
        {"step": 10, "eval_held_out": 0.6},
        {"step": 16, "eval_held_out": 0.61},
    ]
    found = _history(whole)
    assert found == [
        {"step": 0, "held_out": 0.5},
        {"step": 10, "held_out": 0.6, "loss": 0.7},
        {"step": 16, "held_out": 0.61},
    ]
    stopped = [whole[0], {"step": 4, "loss": 1.0}, {"step": 10, "loss": 0.5}, *whole[2:]]
    assert _history(stopped) == found


def test_a_reranker_reads_less_while_it_learns_and_is_saved_as_it_was(asks, tmp_path):
    work, fit = asks
    asked = fit(max_length=16, weights="bfloat16", frozen_layers=1)
    own = RerankerFit(asked, asked.start, work)
    assert own._model.max_seq_length == 16
    own.save(tmp_path / "saved")
    assert CrossEncoder(str(tmp_path / "saved"), device="cpu").max_seq_length == 64
    weights = load_file(tmp_path / "saved" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_judgement_reads_as_much_as_a_run_would(asks, monkeypatch):
    work, fit = asks
    asked = fit(max_length=16)
    own = RerankerFit(asked, asked.start, work)
    seen = []

    def judge(folder, *_, **__):
        seen.append(CrossEncoder(folder, device="cpu").max_seq_length)
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.train.fitting_reranker.judge_reranker", judge)
    trainer = own.trainer(
        own.arguments(output_dir=str(work.checkpoints)), own.data(work.read(GROUPS_FILE)), []
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluator(own._model)
    assert seen == [64]
    assert own._model.max_seq_length == 16


def test_an_encoder_reads_less_too_and_its_prompts_stand_before_each_side(asks, tmp_path):
    work, fit = asks
    prompts = {"query": "query: ", "document": "passage: "}
    folder = tiny_models.encoder(tmp_path / "encoder", prompts=prompts)
    start = describe_encoder(locate(str(folder), None, "encoder"), trust_remote_code=False)
    asked = replace(fit(kind="encoder", max_length=16, weights="float16"), start=start)
    own = EncoderFit(asked, start, work)
    assert own._model.max_seq_length == 16
    arguments = own.arguments(output_dir=str(work.checkpoints))
    assert arguments.prompts == {
        "anchor": "query: ", "positive": "passage: ", "negative_1": "passage: ",
    }  # fmt: skip
    own.save(tmp_path / "saved")
    saved = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert saved.max_seq_length == 64
    assert {weight.dtype for weight in saved.parameters()} == {torch.float16}


def test_large_batches_of_an_encoder_are_computed_in_parts(asks, tmp_path):
    work, fit = asks
    folder = tiny_models.encoder(tmp_path / "encoder")
    start = describe_encoder(locate(str(folder), None, "encoder"), trust_remote_code=False)
    own = EncoderFit(replace(fit(kind="encoder"), start=start), start, work)
    data = own.data(work.read(GROUPS_FILE))
    losses = [
        type(
            own.trainer(
                own.arguments(output_dir=str(work.checkpoints), per_device_train_batch_size=size),
                data,
                [],
            ).loss
        ).__name__
        for size in (64, 65)
    ]
    assert losses == ["MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss"]
