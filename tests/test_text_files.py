"""Text and Markdown: a file is a document, whatever is wrong with it costs that document alone."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_models import fake_models
from passes import keys_of, wanted_of
from running import configured, live_rows, run_index

from pipelines.config import Corpus
from pipelines.corpus.documents import documents_schema, read_documents
from pipelines.corpus.identity import document_hash
from pipelines.corpus.plan import Facts, make_plan, require_fields
from pipelines.corpus.read.pieces import corpus_pieces, rows_of
from pipelines.corpus.read.rows import Document, Mapped, Reject
from pipelines.errors import InputMissing, TandemError, UsageError
from pipelines.quarantine import read
from pipelines.table.place import Place

MAPPED = Mapped("id", "text", "title", (), 1000)
LIVE = pa.schema([("doc_id", pa.string()), ("doc_hash", pa.binary(16))])


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / os.fsdecode(name.encode("latin-1"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def rows_in(*paths: Path, kind: str = "text", mapped: Mapped = MAPPED) -> list[Any]:
    pieces = corpus_pieces(Corpus(format=kind, paths=tuple(map(str, paths))), 2)
    return [row for piece in pieces for row in rows_of(piece, mapped, set())]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Words.\n", "Words.\n"),
        (b"\xef\xbb\xbfWords.", "Words."),
        (b"a\r\nb\rc\n\r\nd", "a\nb\nc\n\nd"),
        ("Grüße \u2028 \U0001f600\x07".encode(), "Grüße \u2028 \U0001f600\x07"),
        (b"x" * 1000, "x" * 1000),
    ],
)
def test_a_file_is_a_document(tmp_path: Path, raw: bytes, text: str) -> None:
    written(tmp_path, {"a.txt": raw})
    assert rows_in(tmp_path) == [Document(0, "a.txt", "a.txt", text, {})]


@pytest.mark.parametrize(
    ("raw", "reason", "message"),
    [
        (b"", "empty_text", "The text is empty."),
        (b"\xef\xbb\xbf \r\n\n", "empty_text", "The text is empty."),
        (b"ab\xff", "invalid_utf8", "Byte 2: not UTF-8."),
        (b"\xef\xbb\xbfab\xc3(", "invalid_utf8", "Byte 5: not UTF-8."),
        ("Grüße".encode("utf-16"), "invalid_utf8", "Byte 0: not UTF-8."),
        ("words".encode("utf-16-le"), "broken_text", "The file holds a zero byte"),
        (b"x" * 1001, "too_large", "The file has 1001 bytes, more than 1000."),
    ],
)
def test_a_file_that_is_none_is_known_by_its_path(
    tmp_path: Path, raw: bytes, reason: str, message: str
) -> None:
    written(tmp_path, {"sub/a.md": raw, "sub/b.md": b"fine"})
    broken, fine = rows_in(tmp_path, kind="markdown")
    assert broken[:3] == (0, "sub/a.md", reason)
    assert broken.message.startswith(message)
    assert fine.doc_id == "sub/b.md"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    written(tmp_path, {"gone.txt": b"words", "folder.txt/x.txt": b"words"})
    (tmp_path / "link.txt").symlink_to("nowhere")
    pieces = corpus_pieces(Corpus(format="text", paths=(str(tmp_path),)), 1)
    (tmp_path / "gone.txt").unlink()
    inner, gone, link = (row for piece in pieces for row in rows_of(piece, MAPPED, set()))
    assert inner.doc_id == "folder.txt/x.txt"
    for row, name in ((gone, "gone.txt"), (link, "link.txt")):
        message = f"{name}: No such file or directory"
        assert row == Reject(0, name, "unreadable_file", message)


def test_of_a_folder_that_cannot_be_listed_no_document_is_known(tmp_path: Path) -> None:
    written(tmp_path, {"a/x.txt": b"words"})
    (piece,) = corpus_pieces(Corpus(format="text", paths=(str(tmp_path),)), 1)
    whole = piece.__class__("a/", "text", str(tmp_path / "a"), 0, None, 0, 0)
    (row,) = rows_of(whole, MAPPED, set())
    assert row[:3] == (0, None, "unreadable_file")


def test_ids_are_paths_below_the_entry_and_move_with_it(tmp_path: Path) -> None:
    files = {"a.txt": b"a", "b/A.TXT": b"b", "b/c.text": b"c", "b/no.md": b"-", ".d/e.txt": b"e"}
    written(tmp_path / "here", files)
    ids = [".d/e.txt", "a.txt", "b/A.TXT", "b/c.text"]
    assert [row.doc_id for row in rows_in(tmp_path / "here")] == ids
    (tmp_path / "here").rename(tmp_path / "there")
    assert [row.doc_id for row in rows_in(tmp_path / "there")] == ids
    single = rows_in(tmp_path / "there/b/no.md", tmp_path / "there/*/*.[tT]*")
    assert [row.doc_id for row in single] == ["b/A.TXT", "b/c.text", "no.md"]
    with pytest.raises(InputMissing, match=r"holds no \.md or \.markdown"):
        rows_in(tmp_path / "there/.d", kind="markdown")


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    written(tmp_path, {"\xff.txt": b"words"})
    assert rows_in(tmp_path) == [Document(0, "\\xff.txt", "\\xff.txt", "words", {})]


def test_markdown_has_the_title_of_its_first_heading(tmp_path: Path) -> None:
    files = {"a.md": b"---\nx: y\n---\r\n# A *title*\n", "b.markdown": b"None.", "c.txt": b"# No"}
    written(tmp_path, files)
    assert [(row.doc_id, row.title, row.text) for row in rows_in(tmp_path, kind="markdown")] == [
        ("a.md", "A title", "---\nx: y\n---\n# A *title*\n"),
        ("b.markdown", "b.markdown", "None."),
    ]
    assert [row.title for row in rows_in(tmp_path)] == ["c.txt"]


def test_a_file_offers_columns_like_any_row(tmp_path: Path) -> None:
    written(tmp_path, {"sub/a.txt": b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe\r\n"})
    mapped = Mapped("path", "text", "none", ("path", "size_bytes"), 1000)
    metadata = {"path": "sub/a.txt", "size_bytes": 12}
    wanted = Document(0, "sub/a.txt", None, "Grüße\n", metadata)
    assert rows_in(tmp_path, mapped=mapped) == [wanted]
    os.utime(tmp_path / "sub/a.txt", (0, 0))
    assert rows_in(tmp_path, mapped=mapped) == [wanted]

    corpus = Corpus(format="text", paths=(str(tmp_path),))
    for bad, message in (
        (Mapped("_id", "text", "title", (), 9), "corpus.id names '_id', a column that no row has"),
        (Mapped("id", "body", "title", (), 9), "there are id, path, size_bytes, text, title"),
        (Mapped("id", "text", "title", ("modified",), 9), "corpus.metadata names 'modified'"),
    ):
        facts = Facts.of(keys_of(corpus_pieces(corpus, 1), bad))
        with pytest.raises(UsageError, match=message):
            require_fields(facts.fields, bad)


def test_an_unreadable_file_protects_its_own_document_only(tmp_path: Path) -> None:
    written(tmp_path, {"a.txt": b"\xff", "b.txt": b"words"})
    pieces = corpus_pieces(Corpus(format="text", paths=(str(tmp_path),)), 1)
    keys = keys_of(pieces, MAPPED)
    live = pa.table([["a.txt", "b.txt", "c.txt"], [b"0" * 16] * 3], schema=LIVE)
    assert Facts.of(keys).nameless == 0
    plan = make_plan(keys, live, {}, "go")
    assert (plan.gone.to_pylist(), plan.unread) == (["c.txt"], 1)
    assert plan.changed.to_pylist() == ["b.txt"]


def test_equal_ids_of_two_entries(tmp_path: Path) -> None:
    written(tmp_path, {"one/a.txt": b"same", "two/a.txt": b"same"})
    written(tmp_path, {"one/b.txt": b"same", "two/b.txt": b"other"})
    paths = (str(tmp_path / "one"), str(tmp_path / "two"))
    pieces = corpus_pieces(Corpus(format="text", paths=paths), 1)
    keys = keys_of(pieces, MAPPED)
    plan = make_plan(keys, LIVE.empty_table(), {}, "go")
    assert plan.kept["doc_id"].to_pylist() == ["a.txt"]
    assert (plan.duplicates, plan.rejects["doc_id"].to_pylist()) == (1, ["b.txt", "b.txt"])


@pytest.mark.parametrize("change", [b"other words", b"", None])
def test_a_file_that_changes_between_the_passes(tmp_path: Path, change: bytes | None) -> None:
    written(tmp_path, {"a.txt": b"words", "b.txt": b"other"})
    pieces = corpus_pieces(Corpus(format="text", paths=(str(tmp_path),)), 1)
    keys = keys_of(pieces, MAPPED)
    wanted = make_plan(keys, LIVE.empty_table(), {}, "go").wanted
    parts = wanted_of(pieces, wanted)
    (table,) = read_documents(parts, MAPPED, documents_schema({}))
    assert table["text"].to_pylist() == ["words", "other"]
    assert table["doc_hash"][0].as_py() == document_hash("a.txt", "words", {})
    if change is None:
        (tmp_path / "b.txt").unlink()
    else:
        (tmp_path / "b.txt").write_bytes(change)
    with pytest.raises(TandemError, match=r"^b\.txt changed while it was read; run the command"):
        list(read_documents(parts, MAPPED, documents_schema({})))


@pytest.mark.usefixtures("cluster")
def test_a_folder_of_markdown_is_indexed(tmp_path: Path, small_encoder: Path) -> None:
    files = {f"guide/{n}.md": f"# Lock {n}\n\nThread {n} holds it.\n".encode() for n in range(20)}
    written(tmp_path / "docs", files | {"bad.md": b"\xff", "readme.md": b"List of files."})
    corpus = {"format": "markdown", "paths": [str(tmp_path / "docs")], "metadata": ["path"]}
    config = configured(tmp_path, small_encoder, corpus=corpus)
    first = run_index(config, fake_models())
    assert (first.rows, first.documents["new"], first.quarantined) == (22, 21, 1)
    rows = {row["doc_id"]: row for row in live_rows(tmp_path)}
    assert sorted(rows) == sorted([*files, "readme.md"])
    row = rows["guide/7.md"]
    assert (row["title"], row["text"], row["path"]) == (
        "Lock 7",
        "# Lock 7\n\nThread 7 holds it.\n",
        "guide/7.md",
    )
    assert rows["readme.md"]["title"] == "readme.md"
    (reject,) = read(Place.of(config.table), None).to_pylist()
    assert (reject["source"], reject["doc_id"], reject["reason"]) == (
        "bad.md",
        "bad.md",
        "invalid_utf8",
    )

    written(tmp_path / "docs", {"guide/7.md": b"# Lock 7\n\nError: no file.\n", "bad.md": b"Good."})
    written(tmp_path / "docs", {"readme.md": b"\xff"})
    (tmp_path / "docs/guide/8.md").unlink()
    (tmp_path / "docs").rename(tmp_path / "moved")
    corpus["paths"] = [str(tmp_path / "moved")]
    second = run_index(configured(tmp_path, small_encoder, corpus=corpus), fake_models())
    counts = second.documents
    assert (counts["new"], counts["changed"], counts["gone"], counts["unchanged"]) == (1, 1, 1, 18)
    assert "readme.md" in {row["doc_id"] for row in live_rows(tmp_path)}
