"""Objects of a store, named and read as files are; against a real server."""

import gzip
import io
import json
import pickle
import socket
import threading
import time

import lance
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from failing_store import Faults, failing

from pipelines.config_file import parse_config
from pipelines.corpus.read.paths import expand
from pipelines.corpus.read.pieces import Piece, corpus_pieces, rows_of
from pipelines.corpus.read.rows import Mapped
from pipelines.errors import InputMissing, StorageFault, UsageError
from pipelines.storage.arrow_files import read_arrow, read_arrow_schema, write_arrow
from pipelines.storage.faults import is_store_fault
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import create, located, remove, replace, write_bytes
from pipelines.storage.stores import lance_options, opened

pytestmark = pytest.mark.s3


def test_an_object_is_written_read_and_removed(bucket):
    path = bucket.path("a/b.json")
    assert not path.exists()
    path.write_bytes(b"one")
    path.write_bytes(b"second")
    assert path.read_text() == "second"
    assert path.stat().st_size == 6
    assert abs(path.stat().st_mtime - time.time()) < 60
    assert (path.is_file(), path.is_dir(), path.parent.is_dir()) == (True, False, True)
    path.unlink()
    path.unlink()
    assert not path.parent.exists()
    with pytest.raises(FileNotFoundError, match="No such file"):
        path.read_bytes()


def test_of_those_who_create_an_object_one_wins(bucket):
    path, barrier, won = bucket.path("holder"), threading.Barrier(8), []

    def claim(number):
        barrier.wait()
        if path.create(str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_text() == str(won[0])


def test_a_creation_whose_answer_was_lost_is_ones_own(bucket):
    with failing(bucket.endpoint, Lost()) as endpoint:
        path = ObjectPath.of(f"{bucket.url}/holder", dict(bucket.options, aws_endpoint=endpoint))
        assert path.create(b"mine")
    assert bucket.path("holder").read_bytes() == b"mine"
    assert not bucket.path("holder").create(b"another's")


class Lost(Faults):
    """The answer to the first request is lost."""

    def __init__(self):
        super().__init__(0)

    def draw(self):
        self.done["cut"] += 1
        return "cut" if self.done["cut"] == 1 else None


def test_names_below_are_listed(bucket):
    for name in ("x/a.json", "x/b.arrow", "x/deep/c.json", "xy.json"):
        bucket.path(name).write_bytes(name.encode())
    top = bucket.path("x")
    assert [path.name for path in top.glob("*.json")] == ["a.json"]
    assert sorted(path.url.removeprefix(top.url) for path, _ in top.below()) == [
        "/a.json",
        "/b.arrow",
        "/deep/c.json",
    ]
    assert top.folders() == [top / "deep"]
    assert bucket.path("x").with_suffix(".html").name == "x.html"
    assert (top / "a.json").with_suffix(".html").name == "a.html"
    remove(top)
    assert not top.exists()
    assert bucket.path("xy.json").is_file()


def test_a_stream_can_be_sought_in(bucket):
    content = bytes(range(256)) * 30_000
    path = bucket.path("large")
    path.write_bytes(content)
    with path.open() as stream:
        assert stream.read(3) == content[:3]
        stream.seek(4_900_001)
        assert stream.read(10) == content[4_900_001:4_900_011]
        assert stream.tell() == 4_900_011
        stream.seek(-5, io.SEEK_END)
        assert stream.read() == content[-5:]
        stream.seek(0)
        assert stream.read() == content


def test_arrow_files_stand_in_either_place(bucket, tmp_path):
    table = pa.table({"a": [1, 2]}).replace_schema_metadata({"made by": "a test"})
    for file in (tmp_path / "deep" / "t.arrow", bucket.path("deep/t.arrow")):
        write_arrow(file, table)
        assert read_arrow(file) == table
        assert read_arrow_schema(file).metadata == {b"made by": b"a test"}
        assert [other.name for other in file.parent.glob("*")] == ["t.arrow"]


def test_files_and_folders_move_into_a_bucket(bucket, tmp_path):
    (tmp_path / "training" / "deep").mkdir(parents=True)
    (tmp_path / "training" / "deep" / "new").write_text("new")
    (tmp_path / "one").write_text("one")
    bucket.path("run/training/old").write_bytes(b"old")
    replace(tmp_path / "training", bucket.path("run/training"))
    replace(tmp_path / "one", bucket.path("run/one"))
    found = {path.key: path.read_text() for path, _ in bucket.path("run").below()}
    assert found == {"run/training/deep/new": "new", "run/one": "one"}


def test_here_too_one_creates_and_nothing_is_left_aside(tmp_path):
    path = tmp_path / "new" / "holder"
    assert create(path, b"1", "first")
    assert not create(path, b"2", "second")
    write_bytes(path, b"3")
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("holder", "3")]


def test_a_path_says_no_secret_and_travels_with_what_opens_it(bucket):
    path = bucket.path("a")
    assert "a-word" not in f"{path!r} {path}"
    assert pickle.loads(pickle.dumps(path)) == path
    path.write_bytes(b"here")
    assert pickle.loads(pickle.dumps(path)).read_bytes() == b"here"


def test_an_option_that_there_is_not_is_told(bucket):
    path = ObjectPath.of(bucket.url + "/x", dict(bucket.options, aws_endpiont="http://x"))
    with pytest.raises(UsageError, match=r"storage_options for s3://.*endpiont"):
        path.exists()


def test_a_store_that_is_not_there_is_one_sentence_in_bounded_time(bucket):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    options = dict(bucket.options, aws_endpoint=gone, client_retry_timeout="2")
    started = time.monotonic()
    with pytest.raises(
        StorageFault, match=r"object store failed at s3://.*x: .*Check its endpoint"
    ):
        ObjectPath.of(f"{bucket.url}/x", options).read_bytes()
    assert time.monotonic() - started < 20


def test_what_a_store_refuses_and_cuts_is_asked_again(bucket):
    faults = Faults(seed=3, refused=0.2, cut=0.2)
    with failing(bucket.endpoint, faults) as endpoint:
        top = ObjectPath.of(f"{bucket.url}/f", dict(bucket.options, aws_endpoint=endpoint))
        for number in range(30):
            (top / f"{number:02}").write_bytes(str(number).encode() * 1000)
        for number in range(30):
            assert (top / f"{number:02}").read_text() == str(number) * 1000
        assert len(list(top.glob("*"))) == 30
    assert faults.done["refused"] > 3
    assert faults.done["cut"] > 3


def test_a_store_that_stalls_is_given_up(bucket):
    faults = Faults(seed=1, stalled=1.0, stall_seconds=30)
    with failing(bucket.endpoint, faults) as endpoint:
        options = dict(bucket.options, aws_endpoint=endpoint, timeout="1s")
        path = ObjectPath.of(f"{bucket.url}/x", options | {"client_retry_timeout": "3"})
        started = time.monotonic()
        with pytest.raises(StorageFault):
            path.read_bytes()
        assert time.monotonic() - started < 20


def test_lance_is_given_the_same_bounds(tmp_path):
    assert lance_options(str(tmp_path), (("aws_region", "x"),)) is None
    found = lance_options("s3://b/c", (("aws_region", "x"), ("client_max_retries", "1")))
    assert found["aws_region"] == "x"
    assert found["client_max_retries"] == "1"
    assert found["timeout"] == "30s"
    assert lance_options("s3://b/c", (("request_timeout", "5s"),))["timeout"] == "5s"


@pytest.mark.slow
def test_lance_gives_a_store_that_stalls_up_as_soon(bucket):
    with failing(bucket.endpoint, Faults(seed=1, stalled=1.0, stall_seconds=60)) as endpoint:
        options = dict(bucket.options, aws_endpoint=endpoint, request_timeout="1s")
        options |= {"client_max_retries": "0", "client_retry_timeout": "1"}
        started = time.monotonic()
        with pytest.raises(ValueError, match="error sending request"):
            lance.dataset(
                f"{bucket.url}/x.lance",
                storage_options=lance_options(bucket.url, tuple(options.items())),
            )
        assert time.monotonic() - started < 25


def test_what_is_removed_while_it_is_looked_at_was_not_created(bucket, monkeypatch):
    path = ObjectPath.of(f"{bucket.url}/held", bucket.options)
    path.write_bytes(b"another's")
    put = obstore.put

    def released_meanwhile(*args, **options):
        try:
            return put(*args, **options)
        finally:
            path.unlink()

    monkeypatch.setattr(obstore, "put", released_meanwhile)
    assert path.create(b"mine") is False


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("client_max_retries", "many", "client_max_retries is 'many'; a whole number is allowed"),
        ("client_retry_timeout", "30s", "client_retry_timeout is '30s'; a whole number"),
        ("azure_nothing", "1", "azure_nothing"),
        ("read_timeout", "1s", "one of read_timeout cannot be set"),
    ],
)
def test_options_that_there_are_not_are_told(option, value, said):
    with pytest.raises(UsageError, match=said):
        opened("s3://bucket", ((option, value),))


def test_options_of_the_connection_have_the_names_of_lance():
    names = ("aws_allow_http", "http1_only", "pool_idle_timeout", "request_timeout", "TIMEOUT")
    for name in names:
        value = "true" if "http" in name else "10s"
        assert opened("s3://bucket", ((name, value), ("aws_region", "x")))


def test_a_number_in_an_address_is_not_what_a_store_answered():
    refused = "Generic S3 error: Error performing PUT http://127.0.0.1:40437/b/x in 3s - 503"
    missing = "Generic S3 error: Error performing GET http://h/b/x: 404 Not Found: NoSuchKey"
    assert is_store_fault(OSError(refused))
    assert not is_store_fault(OSError(missing))


ROWS = [{"id": f"d{n}", "title": f"T{n}", "text": f"Text {n}.", "lang": "en"} for n in range(50)]


def formats(folder):
    """The same rows in every format; what to read, and where."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    (folder / "rows").mkdir()
    (folder / "rows" / "a.jsonl").write_bytes(lines)
    (folder / "rows" / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    table = pa.Table.from_pylist(ROWS)
    with pa.CompressedOutputStream(str(folder / "c.jsonl.zst"), "zstd") as packed:
        packed.write(lines)
    pq.write_table(table, folder / "d.parquet", row_group_size=20)
    names = ",".join(ROWS[0])
    (folder / "e.csv").write_text("\n".join([names, *(",".join(r.values()) for r in ROWS)]))
    (folder / "texts" / "deep").mkdir(parents=True)
    (folder / "texts" / "one.md").write_text("# One\n\nbody")
    (folder / "texts" / "deep" / "two.md").write_text("two")
    lance.write_dataset(table, folder / "tables" / "f.lance")
    return [
        ("jsonl", ["rows"]),
        ("jsonl", ["c.jsonl.zst"]),
        ("jsonl", ["rows/*.jsonl", "rows/?.jsonl.gz"]),
        ("parquet", ["d.parquet"]),
        ("csv", ["*.csv"]),
        ("markdown", ["texts"]),
        ("markdown", ["**/*.md"]),
        ("lance", ["tables"]),
        ("lance", ["tables/f.lance"]),
        ("lance", ["tables/[e-g].lance"]),
    ]


def test_every_format_is_read_from_a_bucket_as_from_a_folder(bucket, tmp_path):
    wanted = formats(tmp_path)
    bucket.upload(tmp_path, "corpus")
    for kind, names in wanted:
        columns = {"metadata": ["lang"]} if kind != "markdown" else {}
        found = [
            everything(kind, [f"{top}/{name}" for name in names], bucket.options, columns)
            for top in (tmp_path, bucket.url + "/corpus")
        ]
        assert found[0] == found[1], (kind, names)
        assert len(found[0]) >= 2


def everything(kind, paths, options, columns):
    """The rows of a corpus, with where they stand."""
    raw = {"format": kind, "paths": paths, "storage_options": options, **columns}
    corpus = parse_config({"corpus": raw, "table": {"uri": "x"}}).require_corpus()
    mapped = mapped_by(corpus)
    pieces = corpus_pieces(corpus, readers=2)
    return [(piece.source, row) for piece in pieces for row in rows_of(piece, mapped, set())]


def mapped_by(corpus):
    return Mapped(corpus.id_column, corpus.text, corpus.title, corpus.metadata, 1_000_000)


def test_a_bucket_is_cut_into_pieces_as_a_folder_is(bucket, tmp_path):
    line = json.dumps({"id": "x", "text": "word " * 200}) + "\n"
    (tmp_path / "big.jsonl").write_text("".join(line for _ in range(2000)))
    bucket.upload(tmp_path, "corpus")
    cuts = []
    for top in (str(tmp_path), f"{bucket.url}/corpus"):
        raw = {"format": "jsonl", "paths": [top], "storage_options": bucket.options}
        corpus = parse_config({"corpus": raw, "table": {"uri": "x"}}).require_corpus()
        cuts.append([(p.source, p.start, p.end) for p in corpus_pieces(corpus, readers=2)])
    assert cuts[0] == cuts[1]
    assert len(cuts[0]) > 4


@pytest.mark.parametrize("name", ["nothing", "nothing/*.jsonl", "x.jsonl"])
def test_what_a_url_names_and_is_not_there_is_told(bucket, name):
    bucket.path("other/y.txt").write_bytes(b"")
    entry = located(f"{bucket.url}/{name}", bucket.options)
    with pytest.raises(InputMissing, match=rf"corpus.paths: there is no object s3://.*{name[:4]}"):
        expand([entry], "corpus.paths", (".jsonl",))


def test_a_store_that_fails_is_no_reason_to_reject_a_row(bucket):
    bucket.path("c/a.jsonl").write_bytes(b'{"id": "a", "text": "t"}\n')
    entries = expand([bucket.path("c")], "corpus.paths", (".jsonl",))
    ((file, source),) = entries
    gone = dict(bucket.options, aws_endpoint="http://127.0.0.1:1", client_retry_timeout="1")
    raw = {"format": "jsonl", "paths": [f"{bucket.url}/c"]}
    corpus = parse_config({"corpus": raw, "table": {"uri": "x"}}).require_corpus()
    unreachable = ObjectPath(file.url, tuple(sorted(gone.items())), file.size_bytes)
    piece = Piece(source, "jsonl", unreachable, 0, None, 0, 10)
    with pytest.raises(StorageFault):
        list(rows_of(piece, mapped_by(corpus), set()))
    removed = Piece(source, "jsonl", bucket.path("c/none.jsonl"), 0, None, 0, 10)
    (reject,) = rows_of(removed, mapped_by(corpus), set())
    assert reject.reason == "unreadable_file"
