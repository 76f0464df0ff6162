"""The bundled reranker's recipe: what it learns from, and a shortened run of it."""

import gzip
import json
import random
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.__main__ import app
from pipelines.corpus.read.pydocs import STANDARD_LIBRARY

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training"))

import prepare  # noqa: E402 - beside the recipe

pytestmark = pytest.mark.slow
PACKAGES = ["click", "tabulate", "filelock", "typing_extensions"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with what the recipe learns from, of a few packages and one file of pairs."""
    folder = tmp_path_factory.mktemp("recipe")
    with gzip.open(folder / "pairs.jsonl.gz", "wt") as file:
        for number in range(12):
            questions = [f"What is thing {number}?", f"Which colour has {number}?", "And why?"]
            file.write(json.dumps({"passage": f"Thing {number} is red.", "questions": questions}))
            file.write("\n")
    words = ["--packages", *PACKAGES, "--pairs", str(folder / "pairs.jsonl.gz"), "--passages", "1"]
    prepare.main([str(folder / "build"), *words])
    return folder / "build"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_nothing_comes_from_the_standard_library(made, standard_library):
    own = {" ".join(row.text.split()) for _, row in standard_library if hasattr(row, "text")}
    rows = lines(made / "corpus.jsonl")
    assert not own & {" ".join(row["text"].split()) for row in rows}
    packages = {row["id"].partition(".")[0] for row in rows}
    assert packages >= {"click", "tabulate", "filelock"}
    # typing_extensions copies what the standard library says of typing.
    everything = {text for text, _ in prepare._texts(["typing_extensions"])}
    assert everything & own
    assert STANDARD_LIBRARY not in packages


def test_none_of_the_demo_s_questions_is_learnt(made):
    demo = {row["query"].lower() for row in lines(ROOT / "pipelines/bundled/questions.jsonl")}
    asked = {row["query"].lower() for row in lines(made / "log.jsonl")}
    written = {
        line.split("\t")[2].lower()
        for line in prepare.QUESTIONS.read_text(encoding="utf-8").splitlines()
    }
    assert len(written) > 200
    assert not demo & (asked | written)


def test_every_query_asks_for_a_document_that_is_there(made):
    rows = {row["id"] for row in lines(made / "corpus.jsonl")}
    log = {row["query_id"]: row["query"] for row in lines(made / "log.jsonl")}
    judged = [line.split("\t") for line in (made / "qrels.tsv").read_text().splitlines()[1:]]
    assert {query for query, _, _ in judged} == set(log)
    assert {document for _, document, _ in judged} <= rows
    assert sum("pairs-" in document for _, document, _ in judged) == 12  # one of three questions
    assert "show how far a loop is" in log.values()


def test_questions_say_it_in_other_words():
    words = "Return the maximum element of the given list of strings".split()  # noqa: SIM905
    chance = random.Random(1)
    asked = {prepare.question_of(words, chance) for _ in range(50)}
    assert len(asked) > 30
    assert all("Return" not in query for query in asked)
    assert any(query.endswith("?") for query in asked)
    assert any("largest" in query for query in asked)


def test_a_shortened_run(cluster, made, small_scorer, tmp_path, monkeypatch):
    """The commands of `make reranker`, on little, and on a small model."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nreranker:")[2]
    commands = [
        shlex.split(line.strip().removeprefix("$(BIN)/"))
        for line in recipe.partition("\n\n")[0].splitlines()[1:]
    ]
    assert [words[:2] for words in commands] == [["tandem", "index"], ["tandem", "train"]]
    (tmp_path / "training").mkdir()
    page = yaml.safe_load((ROOT / "training" / "reranker.yaml").read_text(encoding="utf-8"))
    page["train"] |= {"start": str(small_scorer), "queries": 32, "batch": 8, "held_out": 0.2}
    (tmp_path / "training" / "reranker.yaml").write_text(yaml.safe_dump(page))
    (tmp_path / "training" / "build").symlink_to(made)
    monkeypatch.chdir(tmp_path)
    for words in commands:
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, (words, result.output, result.exception)
    model = made / "reranker"
    head = yaml.safe_load((model / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert head["license"] == "apache-2.0"
    assert json.loads((model / "tandem.json").read_text())["verdict"]
    assert json.loads((model / "config.json").read_text())["dtype"] == "float16"
