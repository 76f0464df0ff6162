"""What `tandem train` refuses, and what it says."""

import re
import shutil

import pytest
from learning import sections
from running import configured, run_train, write_config
from typer.testing import CliRunner

from jobs.__main__ import app
from pipelines.errors import TableHeld, UsageError
from pipelines.table.lease import leased

pytestmark = pytest.mark.usefixtures("cluster")


def test_two_runs_do_not_train_into_one_folder(asked, small_scorer, tmp_path):
    more = sections(asked, tmp_path / "ours", start=str(small_scorer))
    config = configured(asked, "bundled", **more)
    with (
        leased(tmp_path / ".ours.lease", "other"),
        pytest.raises(TableHeld, match=r"ours is held by .*; name another train\.output"),
    ):
        run_train(config)


def test_a_missing_library_is_named(asked, small_scorer, tmp_path, monkeypatch):
    more = sections(asked, tmp_path / "ours", start=str(small_scorer))
    config = configured(asked, "bundled", **more)
    monkeypatch.setattr("pipelines.train_job.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs accelerate: pip install .*retrieval\[train\]"):
        run_train(config)


WRONG = {
    "train.kind=both": "train.kind is 'both'",
    "train.held_out=1": "train.held_out is 1",
    "train.held_out_queries=3": "train.held_out_queries is 3",
    "train.batch=1": "train.batch is 1",
    "train.output=s3://bucket/model": "a folder is allowed that all nodes reach",
    "index.metric=dot": "train.fusion_weight is 0.2, which weighs a logit beside a cosine",
    "train.sources.clicks=1": "queries.columns.clicks names no column",
    "train.sources.teacher=1": "train.runs names no output folder",
    "train.sources={judgements: 0, passages: 0}": "every source the weight 0",
    "train.runs=[nowhere]": "there is no .*nowhere",
    "train.held_out=0.01": "0 can be held out, and two halves of 2, which",
    "train.batch=512": "no batch of 512",
    "train.frozen_layers=9": "train.frozen_layers is 9; the model has 2",
    "train.output=index": "a folder that holds something else than a model",
    "resources.trainer.actors=3": "resources.trainer.actors is 3",
    "resources.trainer={actors: 3, cpus: 0.5}": "train.batch is 8; a multiple of the 3 workers",
    "resources.trainer.gpus=0.5": "resources.trainer.gpus is 0.5",
    "train.output=scorer": "the model that training starts from; name another",
    "reranker.model=none": "reranker.model is none; name the model to start from",
}


LONG = {"train.frozen_layers=9", "train.batch=512"}


@pytest.mark.parametrize(
    "override",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in WRONG],
)
def test_what_cannot_be_is_said_in_a_sentence(asked, small_scorer, tmp_path, monkeypatch, override):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(asked / "index", tmp_path / "index")
    shutil.copytree(small_scorer, tmp_path / "scorer")
    more = sections(asked, tmp_path / "model", start=str(tmp_path / "scorer"))
    if override.startswith("reranker"):
        del more["train"]["start"]
    file = write_config(tmp_path, "bundled", **more)
    result = CliRunner().invoke(app, ["train", str(file), "--set", override])
    assert result.exit_code == 2, result.output
    assert re.search(WRONG[override], result.output)
    assert "Traceback" not in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"index", "scorer", "tandem.yaml"}
