"""Plain text and Markdown: a file is a document.

Such a file is one row of the columns `id` and `path` (both its path relative to the entry of
`corpus.paths`, with slashes), `text` (the whole file, its lines ended by a newline alone), `title`
(the first heading of a Markdown file, else the file's name) and `size_bytes`. `corpus.id`,
`corpus.text`, `corpus.title` and `corpus.metadata` choose among these as among the columns of any
other format: a name that is none of them is refused, but for the title, which is then absent.

What is wrong with a file costs that document only, since its id is known without reading it.
"""

from __future__ import annotations

import os
from posixpath import basename

from pipelines.corpus.read.markdown_title import first_heading
from pipelines.corpus.read.rows import Document, Mapped, Reject, document_of
from pipelines.storage.reading import AnyFile, open_file

ENDINGS = {"text": (".txt", ".text"), "markdown": (".md", ".markdown")}
COLUMNS = ("id", "text", "title", "path", "size_bytes")


def read_file(file: AnyFile, source: str, kind: str, mapped: Mapped) -> Document | Reject:
    """The document that a file is, at position 0, or why it is none.

    Args:
        file: where it stands.
        source: its path relative to the entry; one that ends in a slash is a folder that cannot
            be listed, and it is not known which documents are in it.
        kind: "text" or "markdown".
        mapped: which columns are the document's.
    """
    known = source if mapped.id in ("id", "path") and not source.endswith("/") else None
    largest = mapped.max_document_bytes
    try:
        with open_file(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            raw = stream.read() if size <= largest else b""
    except OSError as error:
        return Reject(0, known, "unreadable_file", f"{source}: {error.strerror}")
    size = max(size, len(raw))  # It may grow while it is read.
    if size > largest:
        message = f"The file has {size} bytes, more than {largest}."
        return Reject(0, known, "too_large", message)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + len(raw) - len(error.object)
        return Reject(0, known, "invalid_utf8", f"Byte {start}: not UTF-8.")
    if "\0" in text:
        message = "The file holds a zero byte, as binary files and other encodings do."
        return Reject(0, known, "broken_text", message)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    row = {
        "id": source,
        "text": text,
        "title": (first_heading(text) if kind == "markdown" else None) or basename(source),
        "path": source,
        "size_bytes": len(raw),
    }
    return document_of(0, row, mapped)
