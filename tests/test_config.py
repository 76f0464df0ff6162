"""The configuration: defaults, overrides, paths, and one sentence for whatever is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config_file import load_config, parse_config, resolved
from pipelines.corpus.read.paths import expand
from pipelines.errors import InputMissing, UsageError

MINIMAL = {"corpus": {"format": "jsonl", "paths": ["docs.jsonl"]}, "table": {"uri": "index"}}

FILES = {"format": "jsonl", "paths": ["x"]}

# The block of the design document, of the keys that there are.
DEFAULTS = """
corpus:    {id: null, text: text, title: title, metadata: [],
            storage_options: {}}
chunking:  {max_tokens: 256, overlap_tokens: 32, boundaries: sentence, whole_document: false,
            store_tokens: false}
encoder:   {model: sentence-transformers/multi-qa-MiniLM-L6-cos-v1, revision: null, dtype: auto,
            backend: auto, batch_tokens: auto, prompt: null}
table:     {name: chunks, storage_options: {}}
index:     {vector: auto, metric: cosine, full_text: false, min_recall: 0.95}
publish:   {auto: true, max_deleted_fraction: 0.2}
queries:   {topics: null, columns: {id: query_id, text: query, candidates: candidates, rank: rank,
            score: score, time: null, session: null, clicks: null}, lowercase: false,
            candidates: retrieved, top_k: 100, hybrid: false, filter: {}, qrels: null,
            storage_options: {}}
reranker:  {model: cross-encoder/ms-marco-MiniLM-L6-v2, revision: null, dtype: auto,
            backend: auto, max_length: 512, label: null, aggregate: max, max_chunks: 16}
output:    {path: runs/rerank, training_queries: 10000, storage_options: {}}
resources: {encoder: {actors: auto, gpus: auto, cpus: auto},
            scorer: {actors: auto, gpus: auto, cpus: auto},
            trainer: {actors: 1, gpus: auto, cpus: auto}}
limits:    {max_document_bytes: 20000000, max_quarantined_fraction: 0.1,
            rejects_hold_deletions: true}
keep:      {versions: 10, days: 7, score_days: 30}
cost:      {price_per_hour: null}
trust:     {remote_code: []}
train:
  {kind: reranker, start: null, output: models/trained, runs: [], queries: 20000, depth: 50,
   sources: {judgements: null, clicks: null, triplets: null, teacher: null, passages: null},
   made: {styles: [title, sentence, keywords], openings: [], least_characters: 100},
   negatives: 7, margin: 0.1, first_stage: 0.3, temperature: 0.05,
   fusion_weight: auto, max_length: 256,
   epochs: 1.0, batch: 16, learning_rate: 5.0e-5, warmup: 0.1, weights: float32, frozen_layers: 0,
   dtype: auto, held_out: 0.1, held_out_queries: 400, evaluate_every: auto, patience: 4, seed: 0,
   card: {licence: null, language: null, data: null, intended_use: null}}
"""


def written(folder: Path, raw: dict[str, Any]) -> Path:
    file = folder / "tandem.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return file


def with_section(section: str, **values: Any) -> dict[str, Any]:
    return MINIMAL | {section: MINIMAL.get(section, {}) | values}


def message_of(raw: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        parse_config(raw)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("section", yaml.safe_load(DEFAULTS))
def test_defaults_are_those_of_the_design(section: str) -> None:
    raw = MINIMAL | {"queries": {"format": "jsonl", "paths": ["log.jsonl"]}}
    held = parse_config(raw).model_dump(mode="json")[section]
    given = raw.get(section, {})
    assert {key: value for key, value in held.items() if key not in given} == yaml.safe_load(
        DEFAULTS
    )[section]


def test_sections_that_a_command_does_not_use_may_be_absent() -> None:
    config = parse_config({"table": {"uri": "index"}})
    assert config.corpus is None
    assert config.queries is None
    with pytest.raises(UsageError, match="corpus is missing"):
        config.require_corpus()
    with pytest.raises(UsageError, match="queries is missing"):
        config.require_queries()


def test_the_id_of_beir_is_its_own() -> None:
    def id_column(**values: str) -> str:
        return parse_config(with_section("corpus", **values)).require_corpus().id_column

    assert id_column() == "id"
    assert id_column(format="beir") == "_id"
    assert id_column(format="beir", id="key") == "key"


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ({"corpus": MINIMAL["corpus"]}, ["table is missing"]),
        (MINIMAL | {"table": {}}, ["table.uri is missing"]),
        (MINIMAL | {"corpus": {"format": "jsonl"}}, ["corpus.paths is missing"]),
        (MINIMAL | {"corpus": {"paths": ["x"]}}, ["corpus.format is missing"]),
        (with_section("corpus", format="xml"), ["corpus.format is 'xml'", "'parquet'", "'pydocs'"]),
        (with_section("corpus", paths=[]), ["corpus.paths is []", "at least one"]),
        (with_section("corpus", paths=["a", 7]), ["corpus.paths[1] is 7", "a string"]),
        (with_section("corpus", metadata="year"), ["corpus.metadata is 'year'", "a list"]),
        (with_section("corpus", metadata=["a", "b", "a"]), ["corpus.metadata", "'a'", "once"]),
        (with_section("chunking", max_tokens=15), ["chunking.max_tokens is 15", "at least 16"]),
        (
            with_section("chunking", max_tokens="256"),
            ["chunking.max_tokens is '256'", "a whole number"],
        ),
        (
            with_section("chunking", max_tokens=True),
            ["chunking.max_tokens is True", "a whole number"],
        ),
        (
            with_section("chunking", whole_document="yes"),
            ["chunking.whole_document is 'yes'", "true or false"],
        ),
        (
            with_section("chunking", store_tokens=1),
            ["chunking.store_tokens is 1", "true or false"],
        ),
        (
            with_section("chunking", max_token=64),
            ["chunking.max_token ", "did you mean max_tokens"],
        ),
        (
            with_section("chunking", max_tokens=64, overlap_tokens=33),
            ["chunking.overlap_tokens is 33", "at most half", "(64)"],
        ),
        (
            with_section("encoder", batch_tokens="many"),
            ["encoder.batch_tokens is 'many'", "'auto' or a whole number"],
        ),
        (
            with_section("encoder", batch_tokens=0),
            ["encoder.batch_tokens is 0", "'auto' or a number of at least 1"],
        ),
        (with_section("encoder", revision=123), ["encoder.revision is 123", "a string"]),
        (with_section("table", uri="http://host/x"), ["table.uri is 'http://host/x'", "s3://"]),
        (with_section("output", path="s3:///run"), ["output.path is 's3:///run'", "a path"]),
        (
            with_section("corpus", paths=["a", "ftp://b/c"]),
            ["corpus.paths is 'ftp://b/c'", "gs://"],
        ),
        (
            with_section("table", storage_options={"timeout": 3}),
            ["table.storage_options", "string"],
        ),
        (with_section("table", name="../x"), ["table.name is '../x'", "letters, digits"]),
        (with_section("table", name="x" * 201), ["table.name is", "at most 200 characters"]),
        (with_section("table", uri=None), ["table.uri is None", "a string"]),
        (with_section("index", min_recall=1.5), ["index.min_recall is 1.5", "at most 1"]),
        (with_section("index", min_recall=float("nan")), ["index.min_recall is nan", "finite"]),
        (with_section("resources", encoder={"gpus": -1}), ["resources.encoder.gpus is -1", "auto"]),
        (
            with_section("resources", encoder={"cpus": 0}),
            ["resources.encoder.cpus is 0", "'auto' or a number above 0"],
        ),
        (
            with_section("resources", encodr={}),
            ["resources.encodr is not a key", "did you mean encoder"],
        ),
        (with_section("limits", max_document_bytes="20 tons"), ["'20 tons'", "such as 20MB"]),
        (with_section("limits", max_document_bytes="0"), ["max_document_bytes is 0", "at least 1"]),
        (MINIMAL | {"chunking": None}, ["chunking is None", "a section"]),
        (MINIMAL | {"chunking": [1]}, ["chunking is [1]", "a section"]),
        (MINIMAL | {"chunkin": {}}, ["chunkin is not a key", "did you mean chunking"]),
        (MINIMAL | {"5": {}}, ["5 is not a key", "allowed: corpus, chunking"]),
        (with_section("trust", x=1), ["trust.x is not a key", "allowed: remote_code"]),
        (MINIMAL | {"trust": {7: 1}}, ["trust.7 is not a key"]),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(raw: dict[str, Any], parts: list[str]) -> None:
    message = message_of(raw)
    for part in parts:
        assert part in message


def test_two_wrong_values_do_not_mix() -> None:
    message = message_of(with_section("chunking", max_tokens=3, overlap_tokens=-4))
    assert message == "chunking.max_tokens is 3; a number of at least 16 is allowed."


@pytest.mark.parametrize(
    ("size", "wanted"),
    [("20MB", 20_000_000), ("1.5k", 1500), ("7", 7), (" 2 gb ", 2 * 10**9), ("9B", 9), (12, 12)],
)
def test_sizes(size: str | int, wanted: int) -> None:
    raw = with_section("limits", max_document_bytes=size)
    assert parse_config(raw).limits.max_document_bytes == wanted
    assert raw["limits"]["max_document_bytes"] == size


def test_a_configuration_is_frozen() -> None:
    config = parse_config(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.chunking.max_tokens = 1  # type: ignore[misc]


def test_a_missing_file_and_one_that_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"no configuration file .*none\.yaml"):
        load_config(tmp_path / "none.yaml")
    for content in ("", "- a", "1: {}", "a: [", "\tb: 1", "just words"):
        (tmp_path / "x.yaml").write_text(content)
        with pytest.raises(UsageError, match=r"x\.yaml"):
            load_config(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_bytes(b"table: {uri: \xff}")
    with pytest.raises(UsageError, match=r"x\.yaml cannot be read"):
        load_config(tmp_path / "x.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path)


def test_paths_count_from_the_file_and_those_of_set_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "model").mkdir(parents=True)
    (here / "scorer").mkdir(parents=True)
    monkeypatch.chdir(here)
    raw = {
        "corpus": {"format": "jsonl", "paths": ["docs", "/absolute/x.jsonl"]},
        "queries": {"format": "beir", "paths": "log", "qrels": "qrels.tsv"},
        "encoder": {"model": "model"},
        "reranker": {"model": "none"},
        "trust": {"remote_code": ["model", "some/name"]},
        "table": {"uri": "../index"},
    }
    file = written(there, raw)

    config = load_config(file)
    assert config.require_corpus().paths == (str(there / "docs"), "/absolute/x.jsonl")
    assert config.require_queries().paths == (str(there / "log"),)
    assert config.require_queries().qrels == str(there / "qrels.tsv")
    assert config.encoder.model == str(there / "model")
    assert config.encoder.model in config.trust.remote_code
    assert config.trust.remote_code[1] == "some/name"
    assert config.reranker.model == "none"
    assert Path(config.table.uri).resolve() == tmp_path / "index"

    overrides = [
        "corpus.paths=[a.jsonl, b.jsonl]",
        "table.uri=t",
        "reranker.model=scorer",
        "output.path=out",
        "queries.paths=one",
    ]
    config = load_config(file, overrides)
    assert config.require_corpus().paths == (str(here / "a.jsonl"), str(here / "b.jsonl"))
    assert config.require_queries().paths == (str(here / "one"),)
    assert config.table.uri == str(here / "t")
    assert config.reranker.model == str(here / "scorer")
    assert config.output.path == str(here / "out")


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = written(tmp_path, MINIMAL | {"table": {"uri": "~/index"}})
    assert load_config(file).table.uri == "/home/me/index"
    file = written(tmp_path, MINIMAL | {"table": {"uri": "~no-such-user/x"}})
    assert load_config(file).table.uri == str(tmp_path / "~no-such-user/x")


@pytest.mark.parametrize(
    ("corpus", "overrides"),
    [
        ({"format": "pydocs", "paths": ["stdlib", "xml.dom"]}, []),
        ({"paths": ["stdlib", "xml.dom"]}, ["corpus.format=pydocs"]),
        (
            {"format": "jsonl", "paths": ["x"]},
            ["corpus.paths=[stdlib, xml.dom]", "corpus.format=pydocs"],
        ),
        (
            {"format": "jsonl", "paths": ["x"]},
            [" corpus.format = pydocs", "corpus.paths=[stdlib, xml.dom]"],
        ),
    ],
)
def test_modules_are_no_paths(tmp_path: Path, corpus: dict[str, Any], overrides: list[str]) -> None:
    config = load_config(written(tmp_path, MINIMAL | {"corpus": corpus}), overrides)
    assert config.require_corpus().paths == ("stdlib", "xml.dom")


def test_the_last_format_decides_what_paths_are(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL | {"corpus": {"format": "pydocs", "paths": ["json"]}})
    config = load_config(file, ["corpus.format=pydocs", "corpus.format=jsonl"])
    assert config.require_corpus().paths == (str(tmp_path / "json"),)


def test_set_takes_yaml(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL | {"resources": {"encoder": {"cpus": 2}}})
    overrides = [
        "chunking.whole_document=true",
        "encoder.prompt='query: '",
        "corpus.metadata=[year, lang]",
        "resources.encoder={actors: 3}",
        "resources.scorer.gpus=0.5",
        "queries.format=jsonl",
        "queries.paths=/log.jsonl",
        "queries.columns.id=qid",
        "limits.max_document_bytes=3kB",
        "reranker.max_length=null",
    ]
    config = load_config(file, overrides)
    assert config.chunking.whole_document is True
    assert config.encoder.prompt == "query: "
    assert config.require_corpus().metadata == ("year", "lang")
    assert (config.resources.encoder.actors, config.resources.encoder.cpus) == (3, 2.0)
    assert config.resources.scorer.gpus == 0.5
    assert config.require_queries().columns.id == "qid"
    assert config.require_queries().columns.text == "query"
    assert config.limits.max_document_bytes == 3000
    assert config.reranker.max_length is None


@pytest.mark.parametrize("override", ["x", "table=y", "=1", ".uri=1", "table.=1", "a..b=1", ""])
def test_set_that_is_none(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match=r"--set takes section\.key=value"):
        load_config(written(tmp_path, MINIMAL), [override])


def test_set_of_what_is_not_yaml_or_no_key(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL)
    with pytest.raises(UsageError, match=r"--set table\.name: '\[' is not a YAML value"):
        load_config(file, ["table.name=["])
    with pytest.raises(UsageError, match=r"table\.nme is not a key"):
        load_config(file, ["table.nme=x"])
    with pytest.raises(UsageError, match=r"index\.metric\.x|index\.metric is"):
        load_config(file, ["index.metric.x=1"])


def touched(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_a_folder_a_file_and_a_glob(tmp_path: Path) -> None:
    a, b, c = tmp_path / "d/z/a.jsonl", tmp_path / "d/B.JSONL.GZ", tmp_path / "d/c.txt"
    touched(a, b, c)
    endings = (".jsonl", ".jsonl.gz")
    assert expand([str(tmp_path / "d")], "k", endings) == [
        (str(b), "B.JSONL.GZ"),
        (str(a), "z/a.jsonl"),
    ]
    assert expand([str(c)], "k", endings) == [(str(c), "c.txt")]
    assert expand([str(tmp_path / "d/**/*.jsonl")], "k", endings) == [(str(a), "z/a.jsonl")]
    assert expand([str(tmp_path / "?/z/*.jsonl")], "k", endings) == [(str(a), "d/z/a.jsonl")]
    assert expand([str(a), str(tmp_path / "d/*"), str(tmp_path / "d")], "k", endings) == [
        (str(b), "B.JSONL.GZ"),
        (str(c), "c.txt"),
        (str(a), "a.jsonl"),
    ]


def test_what_cannot_be_read_is_named_too(tmp_path: Path) -> None:
    """A link that leads nowhere, a folder that cannot be listed, a name that is no UTF-8."""
    touched(tmp_path / "d/x.txt", tmp_path / "d/y.txt/z")
    (tmp_path / "d/link.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "d/pipe.txt")
    Path(os.fsdecode(bytes(tmp_path / "d") + b"/\xe4.txt")).touch()
    found = expand([str(tmp_path / "d"), str(tmp_path / "*/l*.txt")], "k", (".txt",))
    assert [source for _, source in found] == ["link.txt", "x.txt", "\\xe4.txt"]
    assert [source for _, source in expand([str(tmp_path / "d/l*")], "k", ())] == ["link.txt"]
    with pytest.raises(InputMissing, match="there is no file or folder"):
        expand([str(tmp_path / "d/link.txt")], "k", ())

    folder = os.open(tmp_path, os.O_RDONLY)
    name = "n" * 250
    for _ in range(20):  # Deeper than a path can name.
        os.mkdir(name, dir_fd=folder)
        folder, above = os.open(name, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    *_, (_, source) = expand([str(tmp_path)], "k", (".txt",))
    assert re.fullmatch(f"({name}/)+", source)


def test_what_names_nothing(tmp_path: Path) -> None:
    touched(tmp_path / "empty/x.txt", tmp_path / "deep/folder/x.jsonl")
    for entry in ("none", "none/*.jsonl", "deep/*"):
        with pytest.raises(InputMissing, match=r"corpus\.paths: there is no file or folder"):
            expand([str(tmp_path / entry)], "corpus.paths", (".jsonl",))
    with pytest.raises(InputMissing, match=r"empty holds no \.jsonl or \.gz\."):
        expand([str(tmp_path / "empty")], "corpus.paths", (".jsonl", ".gz"))


def test_a_folder_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    folder = tmp_path / "run [1]"
    touched(folder / "a.jsonl", folder / "b*.jsonl", folder / "bc.jsonl")
    raw = MINIMAL | {"corpus": {"format": "jsonl", "paths": ["*.jsonl"]}}
    paths = load_config(written(folder, raw)).require_corpus().paths
    names = [name for _, name in expand(paths, "k", ())]
    assert names == ["a.jsonl", "b*.jsonl", "bc.jsonl"]
    raw = MINIMAL | {"corpus": {"format": "jsonl", "paths": ["b*.jsonl"]}}
    paths = load_config(written(folder, raw)).require_corpus().paths
    assert [name for _, name in expand(paths, "k", ())] == ["b*.jsonl"]


def test_importing_it_imports_nothing_large() -> None:
    code = (
        "import sys, pipelines.config;"
        "print(*{'ray', 'torch', 'lance', 'lancedb', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_key_is_in_the_design() -> None:
    """So that a default is never added without a line in the list above."""

    def keys(raw: Any) -> Any:
        return {key: keys(value) for key, value in raw.items()} if isinstance(raw, dict) else None

    raw = MINIMAL | {"queries": {"format": "jsonl", "paths": ["log.jsonl"]}}
    listed = yaml.safe_load(DEFAULTS)
    for section, required in (
        ("corpus", "format paths"),
        ("queries", "format paths"),
        ("table", "uri"),
    ):
        listed[section] |= dict.fromkeys(required.split())
    assert keys(parse_config(raw).model_dump(mode="json")) == keys(listed)


def test_secrets_are_shown_by_no_message_and_no_page():
    options = {"aws_secret_access_key": 20261121}
    with pytest.raises(UsageError) as raised:
        parse_config({"table": {"uri": "s3://bucket/index", "storage_options": options}})
    assert str(raised.value) == (
        "table.storage_options.aws_secret_access_key is ***; a string is allowed."
    )
    options = {"aws_secret_access_key": "hunter2", "aws_endpoint": "http://me:hunter2@host:9000"}
    config = parse_config({"table": {"uri": "s3://bucket/index", "storage_options": options}})
    assert "http://***@host:9000" in resolved(config)
    assert "hunter2" not in resolved(config)
