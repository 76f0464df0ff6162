"""`tandem plan` says what `tandem index` then does, and writes nothing."""

import json
from pathlib import Path

import pytest
import yaml
from fake_models import fake_models
from running import configured, document, run_index, run_plan, write_config, write_jsonl
from typer.testing import CliRunner

from jobs.__main__ import app

pytestmark = pytest.mark.usefixtures("cluster")


def tandem(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def everything_in(folder: Path):
    return {
        file: (file.stat().st_mtime_ns, file.stat().st_size)
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def edited(tmp_path, small_encoder):
    """Forty documents published; then edited, moved, tagged, removed and added ones."""
    config = configured(
        tmp_path, small_encoder, corpus={"metadata": ["lang"]}, cost={"price_per_hour": 36.0}
    )
    rows = [document(n) for n in range(40)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    run_index(config, fake_models())
    rows = rows[:-2]  # two are gone
    rows[0] = document(0, edition=1)  # one is edited
    rows[1] = rows[1] | {"lang": "fr"}  # of one only metadata changed
    rows[2] = rows[2] | {"id": "moved"}  # one is renamed: new and gone
    rows += [document(n) for n in (50, 51, 52)]  # three are new
    rows += [document(50) | {"id": "twin"}]  # one more has an equal passage
    rows += [rows[5], {"id": "empty", "text": " "}]  # a duplicate and a reject
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    return tmp_path, config


def test_the_plan_is_what_the_run_does(edited):
    folder, config = edited
    before = everything_in(folder)
    plan = run_plan(config, fake_models())
    assert everything_in(folder) == before
    # new: the renamed, the three, the twin; gone: the last two and the renamed one's old id.
    assert plan.documents == {
        "new": 5,
        "changed": 1,
        "metadata": 1,
        "gone": 3,
        "unchanged": 35,
        "duplicates": 1,
        "held": 0,
    }
    assert plan.chunks == {"new": 6, "gone": 4, "unchanged": 36}
    assert plan.quarantined_by == {"empty_text": 1}
    assert plan.encoded == 4  # the edited one and the three
    assert (plan.rebuild, plan.reasons) == (False, [])
    rate = plan.seconds["estimated"]
    assert rate is not None
    assert plan.price == pytest.approx(rate / 3600 * 36.0, abs=1e-3)
    run = run_index(config, fake_models())
    assert (run.documents, run.chunks) == (plan.documents, plan.chunks)
    assert (run.encoded, run.tokens) == (plan.encoded, plan.tokens)
    assert run.base_version == plan.base_version
    again = run_plan(config, fake_models())
    assert (again.encoded, again.tokens, again.documents["unchanged"]) == (0, 0, 42)


def test_a_plan_says_which_part_of_which_fingerprint_changed(edited, small_encoder):
    folder, _ = edited
    config = configured(
        folder, small_encoder, corpus={"metadata": ["lang"]}, chunking={"max_tokens": 40}
    )
    plan = run_plan(config, fake_models())
    assert plan.rebuild
    assert plan.reasons == ["chunker.max_tokens"]
    # The passages are the same: their vectors are copied.
    assert plan.encoded == 4
    run = run_index(config, fake_models())
    assert (run.documents, run.chunks, run.encoded) == (plan.documents, plan.chunks, 4)


def test_the_command(cluster, tmp_path, small_encoder):
    write_jsonl(tmp_path / "corpus.jsonl", [document(n) for n in range(5)])
    config = write_config(tmp_path, small_encoder)
    result = tandem("plan", config, "--exit-code", "--json", tmp_path / "out.json")
    assert result.exit_code == 5, result.output
    assert "To encode: 5 chunks" in result.stdout
    assert "First build" in result.stdout
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary["documents"]["new"] == 5
    assert summary["seconds"]["estimated"] is None
    assert not (tmp_path / "index").exists()
    assert tandem("plan", config).exit_code == 0
    run_index(configured(tmp_path, small_encoder), fake_models())
    result = tandem("plan", config, "--exit-code")
    assert result.exit_code == 0
    assert "Nothing to do" in result.stdout


def test_the_resolved_configuration_is_printed(tmp_path, small_encoder):
    config = write_config(tmp_path, small_encoder)
    result = tandem("plan", config, "--config", "--set", "keep.versions=3")
    assert result.exit_code == 0
    shown = yaml.safe_load(result.stdout)
    assert shown["keep"] == {"versions": 3, "days": 7, "score_days": 30}
    assert shown["publish"] == {"auto": True, "max_deleted_fraction": 0.2}
    (tmp_path / "again.yaml").write_text(result.stdout)
    assert tandem("plan", tmp_path / "again.yaml", "--config").stdout == result.stdout
