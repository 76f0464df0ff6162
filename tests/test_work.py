"""The folder that a training works in, and the model put into its place."""

import json

from pipelines.train.work import Work


def model_in(work, content):
    work.model.mkdir(parents=True, exist_ok=True)
    (work.model / "model.safetensors").write_text(content)


def test_each_key_has_a_folder_of_its_own(tmp_path):
    first = Work.of(tmp_path / "ours", "a" * 32)
    first.keep({}, {"groups": 3})
    second = Work.of(tmp_path / "ours", "b" * 32)
    assert second.facts is None
    assert second.others == 1
    assert Work.of(tmp_path / "ours", "a" * 32).facts == {"groups": 3}
    second.remove()
    assert not (tmp_path / "ours.work").exists()
    assert not list(tmp_path.iterdir())


def test_a_model_is_put_in_the_place_of_another_and_that_can_be_repeated(tmp_path):
    work = Work.of(tmp_path / "ours", "a" * 32)
    model_in(work, "new")
    output = tmp_path / "ours"
    output.mkdir()
    (output / "config.json").write_text("old")
    # What a run left that died in the middle of it.
    (tmp_path / ".ours.new").mkdir()
    (tmp_path / ".ours.old").mkdir()
    for _ in range(2):
        work.bring(output)
        assert {path.name for path in output.iterdir()} == {"model.safetensors"}
        assert {path.name for path in tmp_path.iterdir()} == {"ours", "ours.work"}
    assert (work.model / "model.safetensors").read_text() == "new"


def test_a_checkpoint_counts_once_it_is_whole(tmp_path):
    work = Work.of(tmp_path / "ours", "a" * 32)
    assert work.last_checkpoint() is None
    for step in (2, 10, 20):
        (work.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    work.complete(2)
    work.complete(10)
    assert work.last_checkpoint() == work.checkpoints / "checkpoint-10"


def test_facts_faults_and_ends_are_kept(tmp_path):
    work = Work.of(tmp_path / "ours", "a" * 32)
    assert (work.facts, work.fitted, work.fault) == (None, None, None)
    work.note_fault("no such layer")
    assert work.fault == "no such layer"
    work.clear_fault()
    work.clear_fault()
    assert work.fault is None
    work.end({"steps": 4})
    assert json.loads((work.folder / "fitted.json").read_text()) == work.fitted == {"steps": 4}
