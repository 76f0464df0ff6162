"""The command line: exit codes, sentences, and what the README tells people to type."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from running import document, live_rows, write_config, write_jsonl
from typer.testing import CliRunner

from jobs.__main__ import app

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("ray", "torch", "lance", "lancedb", "transformers", "pyarrow", "numpy")


def tandem(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def python(code, *words):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


LOADED = f"""
import sys
from jobs.__main__ import main
try:
    main()
except SystemExit as exit:
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    print("\\nENDED", exit.code, loaded)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["index", "--help"], 0),
        (["index", "absent.yaml"], 2),
        (["submit", "--help"], 0),
        (["submit", "index", "absent.yaml"], 2),
    ],
)
def test_help_and_a_wrong_configuration_import_nothing_heavy(words, code):
    assert f"ENDED {code} []" in python(LOADED, *words).stdout


@pytest.mark.parametrize(
    "command",
    [
        "plan", "index", "publish", "rollback", "rerank", "evaluate", "versions", "quarantine"
    ],
)  # fmt: skip
def test_a_missing_configuration_ends_2_with_a_sentence(command, tmp_path):
    result = tandem(command, tmp_path / "absent.yaml", "--json", tmp_path / "out.json")
    assert result.exit_code == 2
    assert result.stderr.startswith("tandem: There is no configuration file")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("corpus.format=xml", "corpus.format is 'xml'"),
        ("corpus.colour=red", "corpus.colour is not a key"),
        ("chunking.max_tokens=many", "chunking.max_tokens is 'many'"),
        ("corpus.paths=[nowhere.jsonl]", "corpus.paths"),
        ("corpus.text=body", "corpus.text names 'body', a column that no row has"),
        ("encoder.model=/no/such/model", "/no/such/model"),
        ("resources.encoder.actors=99", "resources.encoder.actors is 99"),
    ],
)
def test_wrong_values_end_2_and_write_nothing(cluster, tmp_path, small_encoder, override, sentence):
    write_jsonl(tmp_path / "corpus.jsonl", [document(1)])
    config = write_config(tmp_path, small_encoder)
    result = tandem("index", config, "--set", override, "--json", tmp_path / "out.json")
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("tandem: ")
    assert not (tmp_path / "out.json").exists()
    assert not (tmp_path / "index").exists()


def test_an_empty_corpus_ends_2_without_a_table_and_3_over_one(cluster, tmp_path, small_encoder):
    write_jsonl(tmp_path / "corpus.jsonl", [])
    config = write_config(tmp_path, small_encoder)
    assert tandem("index", config).exit_code == 2
    assert not (tmp_path / "index" / "chunks.lance").exists()
    write_jsonl(tmp_path / "corpus.jsonl", [document(1)])
    assert tandem("index", config).exit_code == 0
    write_jsonl(tmp_path / "corpus.jsonl", [])
    result = tandem("index", config, "--json", tmp_path / "out.json")
    assert result.exit_code == 3
    assert json.loads((tmp_path / "out.json").read_text())["error"] in result.stderr
    assert len(live_rows(tmp_path)) == 1


def test_searching_and_evaluating_before_there_is_anything_ends_2(tmp_path, small_encoder):
    config = write_config(tmp_path, small_encoder, queries={"format": "jsonl", "paths": ["x"]})
    for words in (["search", config, "lock"], ["versions", config], ["evaluate", config]):
        result = tandem(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("tandem: ")


def test_summaries_hold_the_keys_of_the_contract(cluster, tmp_path, small_encoder, monkeypatch):
    monkeypatch.setattr("pipelines.stage_table._LEAST_SECONDS", 0.0)
    write_jsonl(tmp_path / "corpus.jsonl", [document(n) for n in range(9)] + [{"id": None}])
    config = write_config(tmp_path, small_encoder)
    indexed = tandem("index", config, "--json", tmp_path / "out.json")
    assert indexed.exit_code == 0
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary.keys() >= {
        "run",
        "base_version",
        "version",
        "live",
        "rebuild",
        "documents",
        "chunks",
        "encoded",
        "resumed",
        "in_flight",
        "tokens",
        "quarantined",
        "quarantined_by",
        "gate",
        "seconds",
        "stages",
    }
    (busy,) = [work["busy"] for work in summary["stages"] if work["stage"] == "encode"]
    assert (f"busy for {busy:.0%}" in indexed.stdout) == (busy < 0.5)
    assert summary["documents"].keys() == {
        "new",
        "changed",
        "gone",
        "unchanged",
        "metadata",
        "duplicates",
        "held",
    }
    assert summary["chunks"].keys() == {"new", "gone", "unchanged"}
    assert summary["gate"].keys() >= {"passed", "recall"}
    assert summary["seconds"].keys() >= {"total", "start"}
    listed = tandem("quarantine", config)
    assert listed.exit_code == 0
    assert "missing_id" in listed.stdout
    record = tmp_path / "index" / "_tandem" / "chunks" / "runs" / f"{summary['run']}.json"
    assert json.loads(record.read_text())["models"]["digest"]
    versions = tandem("versions", config)
    assert "live" in versions.stdout
    assert summary["run"] in versions.stdout


def test_the_commented_configuration_is_valid_and_shows_the_defaults(tmp_path):
    assert tandem("init", tmp_path / "new.yaml").exit_code == 0
    again = tandem("init", tmp_path / "new.yaml")
    assert again.exit_code == 2
    text = (tmp_path / "new.yaml").read_text()
    shown = yaml.safe_load(re.sub(r"^(\s*)# (?=[ a-z_]+:)", r"\1", text, flags=re.MULTILINE))
    from pipelines.config_file import parse_config

    plain = parse_config(yaml.safe_load(text)).model_dump()
    full = parse_config(shown).model_dump()
    for section in full:
        if section not in ("corpus", "queries"):
            assert full[section] == plain[section], section
            assert _keys(shown[section]) == _keys(full[section]), section


def _keys(values):
    """The keys of a section, and those of the sections in it."""
    return {name: _keys(own) for name, own in values.items() if isinstance(own, dict) and own} | {
        name: None for name, own in values.items() if not (isinstance(own, dict) and own)
    }


def readme_commands():
    """The lines of the README's shell blocks that run tandem."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("tandem ")]


def test_every_configuration_of_the_readme_is_valid():
    from pipelines.config_file import parse_config

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [yaml.safe_load(page) for page in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert len(pages) >= 3
    for page in pages:
        parse_config({"table": {"uri": "index"}} | page)


@pytest.mark.parametrize("demo", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_command_of_the_readme_runs(cluster, tmp_path, monkeypatch, demo):
    from pipelines.bench import flow as bench
    from pipelines.bench.sizes import Sample, Tries

    commands = readme_commands()
    trainings = [line for line in commands if line.split()[1] == "train"]
    assert trainings == ["tandem train tandem.yaml --set train.output=models/ours"]
    assert {line.split()[1] for line in commands} >= {
        "init", "plan", "index", "rerank", "evaluate", "search", "versions", "quarantine",
        "rollback", "publish", "demo", "bench", "models", "submit", "train",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0]
    page = re.sub(r"model: \S+/\S+", "model: bundled", page)
    (tmp_path / "tandem.yaml").write_text(page)
    raw = yaml.safe_load(page)
    (tmp_path / "corpus").mkdir()
    rows = [document(n) for n in range(6)]
    write_jsonl(tmp_path / "corpus" / "part-1.jsonl", rows)
    log = [{"query_id": "q1", "query": "which lock"}, {"query_id": "q2", "query": "open file"}]
    write_jsonl(tmp_path / raw["queries"]["paths"][0], log)
    (tmp_path / "ids.txt").write_text("d001\n")
    (tmp_path / raw["queries"]["qrels"]).write_text("query-id\tcorpus-id\tscore\nq1\td001\t1\n")
    few = Sample(2, 1, 1)
    tiny = bench.BenchSize(
        ("bisect", "heapq"), 8, 2, 2, 1, 64, 128, short=few, long=few, tries=Tries(2, (2,))
    )
    monkeypatch.setattr(bench, "bench_size", lambda full: tiny)
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        if (words[0] in ("demo", "bench")) != demo:
            continue
        if words[0] in ("submit", "train"):  # tests/test_submit.py has a dashboard, and
            continue  # tests/test_training.py something to learn
        if words[0] == "init":
            words.append("new.yaml")
        if words[0] == "demo":
            words += ["--set", "corpus.paths=[bisect, heapq]", "--set", "queries.top_k=2"]
        result = tandem(*words)
        assert result.exit_code == 0, (line, result.output, result.exception)
