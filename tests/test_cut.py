"""Where texts are cut: nothing lost, nothing too long, and what an edit leaves alone."""

import random
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.cut import Cutting, Span, Starts, cut, stripped

GAP = "\n\n"


def words(text: str) -> Starts:
    return np.array([match.start() for match in re.finditer(r"\S+", text)], np.int64)


def characters(text: str) -> Starts:
    return np.array([match.start() for match in re.finditer(r"\S", text)], np.int64)


def count(starts: Starts, span: Span) -> int:
    return int(((starts >= span[0]) & (starts < span[1])).sum())


def parts(text: str, budget: int, overlap: int = 0, sentences: bool = True) -> list[str]:
    spans = cut(text, words(text), Cutting(budget, overlap, sentences))
    return [text[start:end] for start, end in spans]


TEXTS = st.lists(
    st.sampled_from(
        ["a", "bc", "d.", "e!\n", "東京。", "ไทย", "🙂", "\n\n", " ", "\n", "…", "'\" ", "."]
    ),
    max_size=60,
).map(" ".join) | st.text("ab.。\n ", max_size=60)


@settings(deadline=None)
@given(
    TEXTS,
    st.integers(1, 12),
    st.integers(0, 5),
    st.booleans(),
    st.sampled_from([words, characters]),
)
def test_nothing_is_lost_and_nothing_too_long(
    text: str, budget: int, overlap: int, sentences: bool, tokens: Callable[[str], Starts]
) -> None:
    starts = tokens(text)
    spans = cut(text, starts, Cutting(budget, overlap, sentences))
    assert spans == cut(text, starts, Cutting(budget, overlap, sentences))
    covered = {place for start, end in spans for place in range(start, end)}
    assert all(place in covered for place, letter in enumerate(text) if not letter.isspace())
    for span in spans:
        assert span == stripped(text, span)
        assert span[0] < span[1]
        assert count(starts, span) <= budget
    for before, here in pairwise(spans):
        assert before[0] < here[0]
        assert before[1] < here[1]
        assert count(starts, (here[0], before[1])) <= overlap


def test_a_text_that_fits_is_one_span() -> None:
    assert parts("One two.\n\nThree.", 6) == ["One two.\n\nThree."]
    assert parts("  \n\n One.\n\n \n", 3) == ["One."]
    assert parts("", 3) == []
    assert parts(" \n\n \n\n\t", 3) == []


def test_whole_paragraphs_fill_a_chunk() -> None:
    # Of equal ones the first would stand out, but it is too near to the start: four fit, two stay.
    found = parts(GAP.join(["x y z"] * 6), 13)
    assert found == [GAP.join(["x y z"] * 4), GAP.join(["x y z"] * 2)]
    # Where a paragraph is a third of a chunk long, none is near enough to rival it.
    assert parts(GAP.join(["x y z"] * 3), 9) == ["x y z"] * 3


def test_a_long_paragraph_is_cut_alone_at_sentence_ends_with_overlap() -> None:
    text = "Intro.\n\nA b c. D e. F g h! I j? K l m n.\n\nOutro."
    body = parts(text, 6, 3)
    assert body == [
        "Intro.",
        "A b c. D e.",
        "D e. F g h!",
        "F g h! I j?",
        "I j? K l m n.",
        "Outro.",
    ]


def test_marks_that_end_a_sentence() -> None:
    assert parts("A 1.5 b.) C d", 3) == ["A 1.5 b.)", "C d"]
    assert parts("Wait... what?! Yes", 2) == ["Wait... what?!", "Yes"]
    text = "東京は雨。「はい。」次は!終"
    spans = cut(text, characters(text), Cutting(6, 0, True))
    assert [text[start:end] for start, end in spans] == ["東京は雨。", "「はい。」", "次は!終"]


def test_a_long_sentence_is_cut_between_words_with_overlap() -> None:
    # Parts of two words, for two of them to be repeated: 8 at a time, on from the last four.
    assert parts("a b c d e f g h i j k l m n", 8, 4) == [
        "a b c d e f g h",
        "e f g h i j k l",
        "i j k l m n",
    ]


def test_without_sentences_chunks_are_full_across_paragraphs() -> None:
    text = "A b. C d.\n\nE f. G h. I"
    found = parts(text, 4, 0, sentences=False)
    assert [len(part.split()) for part in found] in ([4, 4, 1], [4, 4], [4, 4, 1])
    one = "a. " * 40
    assert [len(part.split()) for part in parts(one, 16, 8, sentences=False)] == [16, 16, 16, 16]


@pytest.mark.parametrize(
    "line", ["x", "x ", ".", ".)", "a.b", "。", "\n", "\n\n", "\n\nx", "\u200b\n\n", "'\"", "   "]
)
def test_a_megabyte_of_one_thing_takes_seconds(line: str) -> None:
    text = line * (1_000_000 // len(line))
    begin = time.monotonic()
    for starts in (characters(text), words(text)):
        spans = cut(text, starts, Cutting(250, 32, True))
        assert all(count(starts, span) <= 250 for span in spans[:50])
    assert time.monotonic() - begin < 20


def section_breaks(paragraphs: list[str], reach: int) -> tuple[list[int], list[int]]:
    """By the definition: numbers of the paragraphs that begin a section; tokens before each."""
    at = [0]
    for paragraph in paragraphs:
        at.append(at[-1] + len(paragraph.split()))
    ranks = [zlib.crc32(paragraph.encode()) for paragraph in paragraphs]
    chosen = []
    for here in range(1, len(paragraphs)):
        near = [n for n in range(1, len(paragraphs)) if abs(at[n] - at[here]) < reach and n != here]
        if at[here] < reach or at[-1] - at[here] < reach:
            continue
        if all(ranks[n] < ranks[here] or (ranks[n] == ranks[here] and n > here) for n in near):
            chosen.append(here)
    return chosen, at


PARAGRAPHS = st.lists(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=9).map(" ".join),
    min_size=1,
    max_size=25,
)


@settings(deadline=None)
@given(PARAGRAPHS, st.integers(6, 30))
def test_sections_are_cut_by_themselves(paragraphs: list[str], budget: int) -> None:
    chosen, _ = section_breaks(paragraphs, budget // 3)
    bounds = [0, *chosen, len(paragraphs)]
    alone = []
    for first, last in pairwise(bounds):
        chunk: list[str] = []
        for paragraph in paragraphs[first:last]:
            if chunk and len(" ".join([*chunk, paragraph]).split()) > budget:
                alone.append(GAP.join(chunk))
                chunk = []
            chunk.append(paragraph)
        alone.append(GAP.join(chunk))
    if max(len(paragraph.split()) for paragraph in paragraphs) <= budget:
        assert parts(GAP.join(paragraphs), budget) == alone


@settings(deadline=None)
@given(PARAGRAPHS, st.integers(6, 30), st.data())
def test_what_an_edit_leaves_alone_for_certain(
    paragraphs: list[str], budget: int, data: st.DataObject
) -> None:
    """The cuts before the last section break far enough before it, and behind it likewise."""
    number = data.draw(st.integers(0, len(paragraphs) - 1))
    edited = list(paragraphs)
    edited[number] = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1).map(" ".join))
    old, new = (cuts_of(texts, budget) for texts in (paragraphs, edited))
    reach = budget // 3
    breaks, at = section_breaks(paragraphs, reach)
    before = [n for n in breaks if at[number] - at[n] >= reach]
    if before:
        left = len(GAP.join(paragraphs[: before[-1]]))
        assert [span for span in old if span[0] < left] == [s for s in new if s[0] < left]
    behind = [n for n in breaks if n > number and at[n] - at[number + 1] >= reach]
    if behind:
        right = len(GAP.join(paragraphs[behind[0] :]))
        ends = [
            [(len(text) - start, len(text) - end) for start, end in spans]
            for text, spans in ((GAP.join(paragraphs), old), (GAP.join(edited), new))
        ]
        assert [s for s in ends[0] if s[0] <= right] == [s for s in ends[1] if s[0] <= right]


def cuts_of(paragraphs: list[str], budget: int) -> list[Span]:
    text = GAP.join(paragraphs)
    return cut(text, words(text), Cutting(budget, budget // 8, True))


VOCABULARY = [f"w{number}" for number in range(3000)]


def sentence(draw: random.Random) -> str:
    length = max(2, int(draw.lognormvariate(2.7, 0.5)))
    return " ".join(draw.choices(VOCABULARY, k=length)) + "."


def paragraph(draw: random.Random, sentences: float) -> str:
    return " ".join(sentence(draw) for _ in range(1 + int(draw.expovariate(1 / sentences))))


def neighbours_changed(draw: random.Random, sentences: float, budget: int) -> int:
    """New chunks that do not hold the edited paragraph, on the side that has more of them."""
    old = [paragraph(draw, sentences) for _ in range(draw.randrange(30, 90))]
    number = draw.randrange(len(old))
    new = list(old)
    new[number] = draw.choice(
        [f"Edited {old[number]}", f"{old[number]} {sentence(draw)}", paragraph(draw, sentences)]
    )
    known = Counter(GAP.join(old)[slice(*span)] for span in cuts_of(old, budget))
    text = GAP.join(new)
    start = len(GAP.join([*new[:number], ""]))
    end = start + len(new[number])
    fresh = [span for span in cuts_of(new, budget) if not known[text[slice(*span)]]]
    return max(sum(span[1] <= start for span in fresh), sum(span[0] >= end for span in fresh))


def test_an_edit_rarely_changes_more_than_one_neighbour_on_a_side() -> None:
    draw = random.Random(7)
    changed = Counter(
        neighbours_changed(draw, sentences, budget)
        for sentences, budget in ((1, 246), (4, 246), (10, 246), (2, 60))
        for _ in range(75)
    )
    assert changed.total() == 300
    assert changed[0] + changed[1] >= 291  # 97 %, where 99 % are expected
    assert max(changed) <= 3
