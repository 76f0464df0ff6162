"""The title of a Markdown file: its first heading, without markup.

Headings are CommonMark's, `# x` and those underlined by `===` or `---`. Front matter, fenced code
and HTML comments are passed over; what is indented, quoted or in a list is no heading.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

# A heading is what people read at a glance; of longer lines and paragraphs no more is looked at.
_LINE_CHARACTERS = 1000
_PARAGRAPH_LINES = 20

_FRONT = re.compile(r"---[ \t]*\n")
_FRONT_END = re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_ATX = re.compile(r" {0,3}#{1,6}(?=[ \t]|$)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_COMMENT = re.compile(r" {0,3}<!--")
_INDENTED = re.compile(r" {4}| {0,3}\t")
_RULE = re.compile(r" {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$")
# A quote, a row of a table, HTML or an item of a list: nothing that is underlined.
_OTHER_BLOCK = re.compile(r" {0,3}(?:[>|<]|(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$))")

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_CODE_ASIDE = re.compile(r"\0(\d+)\0")
_TAGS = "a|b|br|center|code|em|font|i|img|kbd|s|samp|small|span|strong|sub|sup|u"
_MARKUP = (
    (re.compile(rf"<!--.*?-->|</?(?:{_TAGS})\b[^<>]*>", re.IGNORECASE), ""),
    (re.compile(r"!\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])"), r"\1"),
    (re.compile(r"\[([^\[\]]*)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])"), r"\1"),
    (re.compile(r"<(https?://[^<>\s]*)>"), r"\1"),
    (re.compile(r"\{[#.:][^{}]*\}\s*$"), ""),  # an anchor or a class
    (re.compile(r"(?<![\\*])(\*{1,3})(?=[^\s*])([^*]*[^\s\\*])\1(?!\*)"), r"\2"),
    (re.compile(r"(?<![\\\w])(_{1,3})(?=[^\s_])(.*?[^\s\\_])\1(?!\w)"), r"\2"),
    (re.compile(r"~~(?=\S)([^~]*[^\s~])~~"), r"\1"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)


def first_heading(text: str) -> str | None:
    """The first heading that says something, as plain text; None where there is none."""
    titles = (without_markup(heading) for heading in _headings(text))
    return next((title for title in titles if title), None)


def without_markup(line: str) -> str:
    """Inline Markdown as plain text: links and images by their words, code and emphasis bare."""
    spans: list[str] = []

    def aside(span: re.Match[str]) -> str:
        spans.append(span[2])
        return f"\0{len(spans) - 1}\0"

    line = _CODE.sub(aside, line.replace("\0", ""))
    for pattern, replacement in _MARKUP:
        line = pattern.sub(replacement, line)
    line = _CODE_ASIDE.sub(lambda mark: spans[int(mark[1])], html.unescape(line))
    return " ".join(line.split())


def _headings(text: str) -> Iterator[str]:
    """The content of each heading, its inline markup still in it."""
    paragraph: list[str] | None = []  # its lines so far; None within what cannot be underlined
    fence, in_comment = "", False
    for line in _body(text):
        if in_comment:
            in_comment = "-->" not in line
        elif fence:
            closing = _FENCE.match(line)
            if closing and closing[1].startswith(fence) and not closing[2].strip():
                fence = ""
        elif paragraph and _UNDERLINE.match(line):
            yield " ".join(paragraph)[:_LINE_CHARACTERS]
            paragraph = []
        elif (opening := _FENCE.match(line)) and not (opening[1][0] == "`" and "`" in opening[2]):
            fence, paragraph = opening[1], []
        elif hashes := _ATX.match(line):
            yield _without_closing(line[hashes.end() :])
            paragraph = []
        elif _COMMENT.match(line):
            in_comment, paragraph = "-->" not in line, []
        else:
            paragraph = _continued(paragraph, line)


def _continued(paragraph: list[str] | None, line: str) -> list[str] | None:
    """The paragraph with one more line; empty after a blank one, a rule or code."""
    if not line.strip() or _RULE.match(line) or (paragraph == [] and _INDENTED.match(line)):
        return []
    if paragraph is None or _OTHER_BLOCK.match(line):
        return None
    if len(paragraph) < _PARAGRAPH_LINES:
        paragraph.append(line.strip())
    return paragraph


def _without_closing(heading: str) -> str:
    """What stands between the hashes before and after a heading."""
    content = heading.strip()
    bare = content.rstrip("#")
    return bare.rstrip() if not bare or bare[-1] in " \t" else content


def _body(text: str) -> Iterator[str]:
    """The lines after front matter, each cut to what is looked at."""
    front = _FRONT.match(text)
    front_end = _FRONT_END.search(text, front.end()) if front else None
    start = front_end.end() + 1 if front_end else 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start : min(end, start + _LINE_CHARACTERS)]
        start = end + 1
