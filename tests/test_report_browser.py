"""The pages in a browser: quiet, reachable by keyboard, legible everywhere, offline."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from sample_pages import HOSTILE, MORE_HOSTILE, explorer, index_page, rerank_page

from pipelines.report.html import render_index, render_rerank

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.base", reason="axe is not installed")

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.timeout(120),
]
PAGES = {
    "judged": lambda: render_rerank(rerank_page()),
    "log": lambda: render_rerank(rerank_page(judged=False)),
    "index": lambda: render_index(index_page()),
}
QUERIES = "#explored > tbody > tr:not(.detail)"


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM)
        yield running
        running.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, render in PAGES.items():
        (folder / f"{name}.html").write_text(render(), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.fixture
def visit(browser, files):
    """Open a page; at the end nothing may have been asked of the network, or complained of."""
    contexts, asked, said = [], [], []

    def open_page(name: str, fragment: str = "", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
        page.goto(files[name].as_uri() + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    own = {path.as_uri() for path in files.values()}
    assert [url for url in asked if url.partition("#")[0] not in own] == []
    assert said == []


def violations(page) -> list[str]:
    # Through the same door as the page's own checks: its policy lets no other script in.
    page.evaluate(axe.AXE_SCRIPT)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]
    ]


def texts(page, column: int) -> list[str]:
    return page.locator(f"{QUERIES} > :nth-child({column})").all_inner_texts()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing(visit, name, scheme):
    page = visit(name, color_scheme=scheme)
    # One table of numbers is like the other; the configuration comes last.
    for place in (0, -1):
        page.locator("summary").nth(place).click()
    if name != "index":
        page.locator(f"{QUERIES} button").nth(0).click()
        page.locator(".order li .document").nth(0).hover()
    assert violations(page) == []


def test_the_dark_scheme_is_dark(visit):
    colour = "getComputedStyle(document.body).backgroundColor"
    assert visit("index", color_scheme="light").evaluate(colour) == "rgb(255, 255, 255)"
    assert visit("index", color_scheme="dark").evaluate(colour) == "rgb(20, 23, 26)"


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_does_not_scroll_sideways(visit, name):
    page = visit(name, viewport={"width": 360, "height": 740})
    if name != "index":
        page.locator(f"{QUERIES} button").nth(0).click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    # A table that is wider than its place can be reached and scrolled by keyboard.
    wide = page.locator(".scroll").first
    assert wide.get_attribute("tabindex") == "0"
    assert violations(page) == []


def test_tables_that_fit_are_no_stop_for_the_keyboard(visit):
    page = visit("judged", viewport={"width": 1280, "height": 800})
    assert page.locator(".scroll[tabindex]").count() == 0


@pytest.mark.parametrize(
    ("name", "charts"),
    [
        (
            "judged",
            [
                "Differences by query",
                "nDCG@10 by depth",
                "Recall ceiling by depth",
                "Scores",
                "Movement into the top ten",
                "Passage lengths",
            ],
        ),
        ("log", ["Scores", "Movement into the top ten", "Passage lengths"]),
        ("index", ["Throughput", "Chunk lengths"]),
    ],
)
def test_every_chart_has_a_name_and_its_numbers(visit, name, charts):
    page = visit(name)
    for chart in charts:
        drawing = page.get_by_role("img", name=chart, exact=True)
        api.expect(drawing).to_be_visible()
        assert drawing.bounding_box()["height"] > 100
        page.get_by_text(f"Numbers of: {chart}", exact=True).click()
        api.expect(page.get_by_role("table", name=chart, exact=True)).to_be_visible()
    assert page.get_by_role("img").count() == len(charts)


@pytest.mark.parametrize("name", PAGES)
def test_headings_go_down_by_one(visit, name):
    levels = visit(name).evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_the_explorer_starts_with_the_most_harmed_and_sorts(visit):
    page = visit("judged")
    queries = rerank_page().explorer.queries
    by_difference = sorted(queries, key=lambda query: query.difference)
    assert texts(page, 1)[0] == by_difference[0].text
    page.get_by_role("button", name="Most helped").click()
    assert texts(page, 1)[0] == by_difference[-1].text
    page.get_by_role("button", name="Most asked").click()
    assert texts(page, 2)[0] == f"{max(query.frequency for query in queries):,}"
    heading = page.get_by_role("columnheader", name="Change", exact=True)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    changes = [float(text) for text in texts(page, 3)]
    assert changes == sorted(changes, reverse=True)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    page.get_by_role("columnheader", name="Query", exact=True).get_by_role("button").click()
    assert texts(page, 1) == sorted(texts(page, 1), key=str.casefold)


def test_without_judgements_the_explorer_starts_with_the_most_changed(visit):
    page = visit("log")
    most = max(rerank_page(judged=False).explorer.queries, key=lambda query: query.change)
    assert texts(page, 1)[0] == most.text
    assert page.get_by_role("button", name="Most harmed").count() == 0
    assert page.locator("#explored thead th").all_inner_texts() == ["Query", "Asked", "Change"]


def test_the_explorer_searches(visit):
    page = visit("judged")
    search = page.get_by_role("searchbox", name="Search")
    search.fill("TORQUE chain")
    assert texts(page, 1) == ["torque for chain"]
    api.expect(page.get_by_role("status")).to_have_text("Showing 1 of 1 that match")
    search.fill("no such query")
    api.expect(page.get_by_role("status")).to_have_text("No query matches.")
    search.fill("")
    api.expect(page.get_by_role("status")).to_have_text("Showing 25 of 120")
    page.get_by_role("button", name="Show 25 more").click()
    assert len(texts(page, 1)) == 50


def test_a_query_opens_with_both_orders_side_by_side(visit):
    page = visit("judged", viewport={"width": 1280, "height": 900})
    query = next(
        one
        for one in rerank_page().explorer.queries
        if any(row.grade for row in one.candidates) and any(row.clicks for row in one.candidates)
    )
    page.get_by_role("searchbox").fill(query.query_id)
    page.get_by_role("button", name=query.text, exact=True).click()
    first, second = page.locator(".order").all()
    in_first = sorted(query.candidates, key=lambda row: row.first_rank)[:10]
    in_second = sorted(query.candidates, key=lambda row: row.rank)[:10]
    assert first.locator(".document").all_inner_texts() == [row.doc_id for row in in_first]
    assert second.locator(".document").all_inner_texts() == [row.doc_id for row in in_second]
    assert first.bounding_box()["y"] == second.bounding_box()["y"]

    moved = [row.first_rank - row.rank for row in in_second]
    arrows = second.locator("li .moved").all_inner_texts()
    assert [text[0] for text in arrows] == ["↑" if m > 0 else "↓" if m < 0 else "=" for m in moved]
    relevant = [row for row in in_second if row.grade]
    assert second.get_by_text("relevant", exact=False).count() >= len(relevant)
    assert first.get_by_text("clicked", exact=False).count() == sum(
        bool(row.clicks) for row in in_first
    )
    row, entry = in_second[0], second.locator("li").first
    assert f"{row.logit:.2f}".replace("-", "−") in entry.inner_text()

    passage = entry.locator(".passage")
    height = passage.bounding_box()["height"]
    entry.get_by_role("button").click()
    assert passage.bounding_box()["height"] > height
    assert entry.get_by_role("button").get_attribute("aria-expanded") == "true"
    start = rerank_page().explorer.passages[row.passage][:500]
    assert passage.text_content().startswith(start)


def test_a_candidate_without_score_or_text_says_so(visit):
    page = visit("judged", "#query=q0006")
    entry = page.locator(".order li", has_text="not scored").first
    api.expect(entry).to_contain_text("The text is not kept.")


def test_the_keyboard_opens_walks_and_closes(visit):
    page = visit("judged")
    page.get_by_role("searchbox").focus()
    for name in ("Most harmed", "Most helped", "Most changed", "Most asked"):
        page.keyboard.press("Tab")
        api.expect(page.get_by_role("button", name=name)).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
    buttons = page.locator(f"{QUERIES} > th button")
    page.keyboard.press("Tab")
    api.expect(buttons.nth(0)).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowDown")
    api.expect(buttons.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert buttons.nth(0).get_attribute("aria-expanded") == "true"
    page.keyboard.press("Tab")
    api.expect(page.locator(".document").first).to_be_focused()
    page.keyboard.press("Enter")
    assert page.locator(".passage").first.get_attribute("class") == "passage whole"
    page.keyboard.press("Escape")
    assert page.locator(".detail").count() == 0
    api.expect(buttons.nth(0)).to_be_focused()


def test_a_query_named_above_opens_at_a_click(visit):
    page = visit("judged")
    link = page.locator(".named a").last
    named = link.inner_text()
    link.click()
    opened = page.locator(f"{QUERIES} button[aria-expanded=true]")
    api.expect(opened).to_have_text(named)
    api.expect(opened).to_be_focused()
    api.expect(page.locator(".detail")).to_be_in_viewport()


def test_a_link_to_a_query_far_down_opens_it(visit):
    queries = sorted(rerank_page().explorer.queries, key=lambda query: query.difference)
    page = visit("judged", f"#query={queries[30].query_id}")
    api.expect(page.locator(f"{QUERIES} button[aria-expanded=true]")).to_have_text(queries[30].text)
    assert len(texts(page, 1)) == 31


@pytest.mark.parametrize("text", [HOSTILE, MORE_HOSTILE])
def test_a_query_that_is_markup_shows_as_text(visit, text):
    page = visit("judged")
    page.get_by_role("searchbox").fill(text[:12])
    button = page.locator(f"{QUERIES} button").first
    assert button.text_content() == text
    button.click()
    assert page.locator("main img, main script:not([type])").count() == 0
    assert page.locator(".detail").count() == 1


def test_documents_and_passages_that_are_markup_show_as_text(visit, files, tmp_path):
    page = rerank_page()
    some = explorer(8)
    hostile = replace(
        some,
        passages=dict.fromkeys(some.passages, MORE_HOSTILE),
        queries=tuple(
            replace(
                query,
                query_id=f"{MORE_HOSTILE}{place}",
                candidates=tuple(
                    replace(row, doc_id=HOSTILE, passage="chunk-0") for row in query.candidates
                ),
            )
            for place, query in enumerate(some.queries)
        ),
    )
    files["hostile"] = tmp_path / "hostile.html"
    files["hostile"].write_text(render_rerank(replace(page, explorer=hostile)), encoding="utf-8")
    opened = visit("hostile")
    opened.locator(f"{QUERIES} button").first.click()
    assert opened.locator(".document").first.text_content() == HOSTILE
    assert opened.locator(".passage").first.text_content() == MORE_HOSTILE
    assert MORE_HOSTILE in opened.locator(".about").text_content()
    assert opened.locator("main img, main script:not([type])").count() == 0
    # The link to a query with such an id finds it.
    opened.locator(".named a").first.click()
    assert opened.locator(f"{QUERIES} button[aria-expanded=true]").count() == 1


def test_print_hides_controls_and_opens_what_is_collapsed(visit):
    page = visit("judged", color_scheme="dark")
    page.locator(f"{QUERIES} button").first.click()
    configuration = page.get_by_text("reranker:")
    api.expect(configuration).not_to_be_visible()
    page.emulate_media(media="print")
    api.expect(configuration).to_be_visible()
    api.expect(page.locator(".passage").first).to_have_css("-webkit-line-clamp", "none")
    for hidden in ("nav", ".controls", "#more", ".numbers"):
        api.expect(page.locator(hidden).first).not_to_be_visible()
    api.expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    # White on a ground that printers leave out could not be read.
    page.emulate_media(media="print")
    relevant = page.locator(".relevant").first
    api.expect(relevant).to_have_css("background-color", "rgba(0, 0, 0, 0)")


def test_without_scripts_the_page_says_what_is_missing(browser, files):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["judged"].as_uri())
    api.expect(page.get_by_text("it has not run")).to_be_visible()
    api.expect(page.locator("#explorer")).not_to_be_visible()
    api.expect(page.get_by_role("img", name="Scores")).to_be_visible()
    context.close()
