"""Titles of Markdown: the first heading, found as another parser finds it, without its markup."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipelines.corpus.read.markdown_title import first_heading, without_markup


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# A title\n\nText.", "A title"),
        ("Text first.\n\n### Then a heading ###\n# Another", "Then a heading"),
        ("A title\n=======\n", "A title"),
        ("A title\nof two lines\n  ---  \n", "A title of two lines"),
        ("#no heading\n####### nor this\n#\tbut this", "but this"),
        ("# \n#\n## ##\n# ![](logo.png)\n# Said at last", "Said at last"),
        ("# C#", "C#"),
        ("# C # #  ", "C #"),
        ("---\ntitle: none\n# comment\n---\n# Real\n", "Real"),
        ("---\n# comment\n...\nReal\n===", "Real"),
        ("---\n# Not closed, so no front matter", "Not closed, so no front matter"),
        ("```sh\n# comment\n```\n# Real", "Real"),
        ("~~~~\n# comment\n```\n~~~\n# comment\n~~~~~  \n# Real", "Real"),
        ("``` `no fence\n# Real", "Real"),
        ("```\n# comment to the end", None),
        ("<!-- licence\n# comment\n-->\n# Real", "Real"),
        ("<!-- one line --># no\n# Real", "Real"),
        ("    # code\n\n# Real", "Real"),
        ("    code\n---\n# Real", "Real"),
        ("> quoted\n---\n- item\n---\n1. item\n===\n| row |\n---\n# Real", "Real"),
        ("para\n- item\n---\n# Real", "Real"),
        ("para\n\n---\n# Real", "Real"),
        ("* * *\n---\n# Real", "Real"),
        ('<a id="top"></a>\n# Real', "Real"),
        ("", None),
        ("\n \n", None),
        ("Just words.", None),
    ],
)
def test_the_first_heading(text: str, title: str | None) -> None:
    assert first_heading(text) == title


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("**Bold** and *soft* and __both__ _too_", "Bold and soft and both too"),
        ("***all*** of ~~it~~", "all of it"),
        ("snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        ("`a_b`, `*args` and ``x`y``", "a_b, *args and x`y"),
        ("[Link](https://x.org/a_(b)) and [ref][1]", "Link and ref"),
        ("[`code`](x.md) [![badge](b.svg)](ci)", "code badge"),
        ("See <https://x.org/a_b_c>", "See https://x.org/a_b_c"),
        ('Text<a name="x"></a> H<sub>2</sub>O <!-- no -->', "Text H2O"),
        ("Vec<T> of List<int>", "Vec<T> of List<int>"),
        (r"\# \*not soft\* 1\. a\b", r"# *not soft* 1. a\b"),
        ("Salt &amp; pepper &lt;3", "Salt & pepper <3"),
        ("Install {#install .big}", "Install"),
        ("a {b} c", "a {b} c"),
        ("  two   blanks\t", "two blanks"),
        ("a [lone] bracket", "a [lone] bracket"),
    ],
)
def test_markup(line: str, plain: str) -> None:
    assert without_markup(line) == plain


def test_a_long_line_takes_no_time() -> None:
    for unit in ("_a ", "*a", "[a](", "`", "[", "<a ", "# ", " #", "- ", "\\", "~~a"):
        assert len(first_heading("# x" + unit * 1_000_000) or "") <= 1000
        assert first_heading("\n".join([unit * 100_000] * 20) + "\n\n# Real") is not None


LINES = st.sampled_from(
    [
        *("", "", "word", "two words", "# one", "## two ##", "#no", " # in", "\tx", "    four"),
        *("===", "---", "--", "> quote", "* * *"),
        *("```", "````", "~~~", "``` x`"),
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(LINES, max_size=9))
def test_another_parser_finds_the_same_heading(lines: list[str]) -> None:
    text = "\n".join(["start", "", *lines])  # No front matter, which the other does not know.
    tokens = MarkdownIt("commonmark").parse(text)
    found = [
        without_markup(tokens[place + 1].content.replace("\n", " "))
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0
    ]
    assert first_heading(text) == next((title for title in found if title), None)
