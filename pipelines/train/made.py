"""Queries made of documents, for teams that have no log: each asks for what it was taken from.

The title asks for the text, the first sentence for the rest, or some words of it for the whole.
What a query was taken from is cut from all passages of its candidates: a model would learn to find
the copy, and else that the right passage is the one without a title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np

from pipelines.config_train import MadeQueries, Style
from pipelines.corpus.cut import SENTENCE_END
from pipelines.corpus.identity import passage
from pipelines.train.examples import Example

_WORD = re.compile(r"\w+(?:['.-]\w+)*")
_LEAST_WORDS = 3
# Of the words of a sentence about so many stay in a query made of some of them.
_KEPT = (0.4, 0.8)


def made_examples(
    chunks: Sequence[Mapping[str, str]], settings: MadeQueries, seed: int
) -> Iterator[Example]:
    """One query of each document, by the style that its id chooses among those that are possible.

    Args:
        chunks: the first chunk of each document: `doc_id`, `title` and `text`.
        settings: the styles, and what precedes words.
        seed: chooses other styles and words.
    """
    for chunk in chunks:
        generator = np.random.default_rng(
            list(blake2b(f"{seed} {chunk['doc_id']}".encode(), digest_size=16).digest())
        )
        for place in generator.permutation(len(settings.styles)):
            if example := _made(settings.styles[place], chunk, settings, generator):
                yield example
                break


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence of a text, and the rest; of a text that is one, "" is left."""
    text = text.strip()
    for match in SENTENCE_END.finditer(text):
        # The end of a line is none of a sentence, a blank line is.
        if match[0].strip() or match[0].count("\n") > 1:
            return " ".join(text[: match.end()].split()), text[match.end() :]
    return " ".join(text.split()), ""


def stripped(style: str | None, title: str | None, text: str) -> str:
    """A passage without what queries of a style are taken from."""
    if style == "title":
        return text.strip()
    if style == "sentence":
        return passage(title, first_sentence(text)[1] or text)
    return passage(title, text)


def _made(
    style: Style, chunk: Mapping[str, str], settings: MadeQueries, generator: np.random.Generator
) -> Example | None:
    title, text = chunk["title"], chunk["text"]
    if style == "title":
        query, rest = (title or "").strip(), text
    else:
        query, rest = first_sentence(text)
        rest = text if style == "keywords" else rest
    if len(rest) < settings.least_characters or len(_WORD.findall(query)) < _LEAST_WORDS:
        return None
    if style == "keywords":
        query = _some_words(query, settings.openings, generator)
    own = {chunk["doc_id"]: stripped(style, title, text)}
    return Example(query, "passages", dict.fromkeys(own, 1.0), texts=own, style=style)


def _some_words(sentence: str, openings: Sequence[str], generator: np.random.Generator) -> str:
    words = _WORD.findall(sentence)
    kept = max(round(len(words) * generator.uniform(*_KEPT)), _LEAST_WORDS)
    places = np.sort(generator.choice(len(words), min(kept, len(words)), replace=False))
    chosen = [words[place] for place in places]
    if openings and generator.random() < 0.5:
        chosen.insert(0, openings[int(generator.integers(len(openings)))])
    return " ".join(chosen)
