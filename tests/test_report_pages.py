"""The pages as text: what they hold, what they escape, how large they grow."""

import json
import re
from dataclasses import asdict, replace
from html import unescape

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sample_pages import HOSTILE, MORE_HOSTILE, explorer, index_page, rerank_page

from pipelines.report import formats
from pipelines.report.axes import BOTTOM, LEFT, RIGHT, TOP, round_values, values_within
from pipelines.report.charts import Words, histogram_chart
from pipelines.report.curves import sweep_chart, throughput_chart
from pipelines.report.evidence import DepthSweep
from pipelines.report.explorer import choose_queries, embed, extremes, script_json
from pipelines.report.histograms import histogram
from pipelines.report.html import render_index, render_rerank
from pipelines.report.intervals import intervals
from pipelines.report.pages import Quarantined
from pipelines.report.significance import compare_differences

WORDS = Words("values", "Values", "value", "things")


def embedded_data(html: str) -> dict:
    found = re.search(r'id="explorer-data">(.*?)</script>', html, re.DOTALL)
    return json.loads(found[1])


def cells(html: str, caption: str) -> list[list[str]]:
    """The rows of the table whose caption begins so, as texts."""
    table = next(
        part
        for part in re.findall(r"<table.*?</table>", html, re.DOTALL)
        if re.search(rf"<caption[^>]*>{re.escape(caption)}", part)
    )
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [
            unescape(re.sub(r"<[^>]+>", " ", cell)).strip()
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in rows
    ]


@pytest.mark.parametrize("html", [render_rerank(rerank_page()), render_index(index_page())])
def test_what_comes_from_data_is_text(html):
    assert HOSTILE not in html
    assert "onerror=alert(2)>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_every_text_of_a_page_is_escaped():
    page = rerank_page()
    heading = replace(page.heading, title=MORE_HOSTILE, verdict=MORE_HOSTILE, table=MORE_HOSTILE)
    origin = replace(page.origin, configuration=MORE_HOSTILE, software={MORE_HOSTILE: HOSTILE})
    marked = replace(
        page, heading=heading, origin=origin, quarantine=Quarantined({MORE_HOSTILE: 1})
    )
    html = render_rerank(marked)
    assert "<img" not in html
    assert "{{ 7 * 7 }}" in html
    assert html.count("<script") == 3


def test_script_data_cannot_leave_its_element():
    values = {"text": "</script><!-- & \u2028\u2029 é"}
    written = script_json(values)
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == values


def test_a_page_is_json():
    assert json.loads(json.dumps(asdict(rerank_page())))["lines"] == 14_339
    assert json.loads(json.dumps(asdict(index_page())))["version"] == 44


def test_a_page_stays_below_five_megabytes_and_says_what_it_left_out():
    large = explorer(number=900, words=9)
    wide = replace(
        large,
        # As many bytes as text can have: nothing is shared, and every character has three.
        queries=tuple(
            replace(
                query,
                candidates=tuple(
                    replace(row, passage=f"{query.query_id}-{row.doc_id}")
                    for row in query.candidates
                ),
            )
            for query in large.queries
        ),
        passages={
            f"{query.query_id}-{row.doc_id}": "索" * 1000
            for query in large.queries
            for row in query.candidates
        },
    )
    html = render_rerank(replace(rerank_page(), explorer=wide))
    assert 3_900_000 < len(html.encode()) < 5_000_000
    held = len(embedded_data(html)["queries"])
    assert 50 < held < 900
    assert f"Holds {held} of 2,211 distinct queries" in html
    assert "passages are cut to 600 characters" in html
    assert max(map(len, embedded_data(html)["passages"])) == 600


def test_passages_are_stored_once():
    found = explorer(60)
    data = json.loads(embed(found).json)
    used = {row.passage for query in found.queries for row in query.candidates if row.passage}
    assert len(data["passages"]) == len(used)
    first = found.queries[0]
    doc_id, place, *_ = data["queries"][0]["rows"][0]
    assert doc_id == first.candidates[0].doc_id
    whole = found.passages[first.candidates[0].passage]
    assert data["passages"][place] == formats.shorten(whole, 600)


def test_queries_are_chosen_by_turns():
    frequency = np.array([5, 1, 9, 1, 1, 7])
    change = np.array([0.0, 0.3, 0.1, -0.9, np.nan, 0.2])
    # By frequency 2, 5, 0, ...; by change 3, 1, 5, 2.
    assert choose_queries(frequency, change, 1).tolist() == [2]
    assert choose_queries(frequency, change, 4).tolist() == [2, 3, 5, 1]
    assert choose_queries(frequency, change, 5).tolist() == [2, 3, 5, 1, 0]
    assert sorted(choose_queries(frequency, change, 99).tolist()) == list(range(6))
    assert choose_queries(frequency[:0], change[:0], 3).tolist() == []


@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(-1, 1)), max_size=30),
    st.integers(0, 35),
)
def test_chosen_queries_are_distinct_and_as_many_as_there_are(queries, limit):
    frequency = np.array([query[0] for query in queries], np.int64)
    change = np.array([query[1] for query in queries], np.float64)
    chosen = choose_queries(frequency, change, limit).tolist()
    assert len(chosen) == len(set(chosen)) == min(limit, len(queries))
    assert chosen == choose_queries(frequency, change, 99).tolist()[:limit]


def test_helped_and_harmed_queries_are_named_with_the_most_extreme_first():
    found = explorer(60)
    helped, harmed = extremes(found, 5)
    gains = [query.difference for query in found.queries]
    assert [query.difference for query in helped] == sorted(gains)[:-6:-1]
    assert [query.difference for query in harmed] == sorted(gains)[:5]
    assert extremes(explorer(60, judged=False), 5) == ([], [])


def test_the_judged_table_has_a_row_an_arm_and_the_comparisons():
    page = rerank_page()
    html = render_rerank(page)
    arms = cells(html, "Judged: means over 66 queries with 1,204 judgements")
    assert arms[0] == ["Order", "nDCG@10", "RR@10", "AP", "R@10", "R@100", "Judged@10"]
    assert arms[1] == ["retrieved", "0.519", "0.551", "0.430", "0.660", "0.871", "0.810"]
    assert [row[0] for row in arms[1:]] == ["retrieved", "reranked", "fused"]
    assert "<strong>0.584</strong>" in html
    found = page.judged.comparisons[0].found
    row = cells(html, "Compared with the first stage")[1]
    assert row[:4] == [
        "reranked",
        "nDCG@10",
        f"+{found.difference:.3f}",
        f"−{abs(found.low):.3f} to +{found.high:.3f}",
    ]
    assert row[-3:] == [str(found.wins), str(found.ties), str(found.losses)]
    assert "at most 50 candidates a query" in html


def test_one_judged_query_and_one_depth_are_shown_without_an_interval():
    page = rerank_page()
    alone = replace(page.judged.comparisons[0], found=compare_differences(np.array([0.25])))
    sweep = DepthSweep("nDCG@10", (10,), 0.5, (0.5,), (0.5,), (0.5,))
    judged = replace(page.judged, comparisons=(alone,))
    html = render_rerank(replace(page, judged=judged, sweep=sweep))
    row = cells(html, "Compared with the first stage")[1]
    assert row == ["reranked", "nDCG@10", "+0.250", "–", "", "–", "1.0000", "–", "1", "0", "0"]
    assert cells(html, "nDCG@10 by depth")[1] == ["10", "0.500", "0.500", "0.500"]


def test_clicks_and_agreement_are_told_with_their_caveats():
    html = render_rerank(rerank_page())
    assert cells(html, "Clicks: 2,210 clicked lines of 803")[1][:3] == [
        "of the clicked document",
        "0.621",
        "0.587",
    ]
    assert "Position bias" in html
    assert "31 clicked documents are not among the candidates" in html
    rows = cells(html, "Agreement of both orders")
    assert rows[0][:4] == ["Queries", "Number", "Overlap@5", "Overlap@10"]
    assert rows[1] == ["all", "1,431", "0.660", "0.702", "0.655", "0.410", "38.2%"]
    assert ["100+", "1", "0.760", "0.802", "0.755", "–", "28.2%"] in rows


def test_costs_are_shares_of_what_they_are_part_of():
    rows = cells(render_rerank(rerank_page()), "Pairs of query and passage")
    assert rows == [
        ["Pairs of all lines", "71,450", ""],
        ["Deduplicated", "14,290", "20.0%"],
        ["Distinct pairs", "57,160", ""],
        ["Scored now", "40,012", "70.0%"],
        ["Reused from earlier runs", "14,290", "25.0%"],
        ["Resumed from a run that died", "2,858", "5.0%"],
    ]


def test_parts_that_a_run_does_not_have_are_left_out():
    page = rerank_page(judged=False)
    bare = replace(
        page,
        clicks=None,
        agreement=None,
        scores=None,
        displacement=None,
        lengths=None,
        explorer=None,
        cost=None,
        quarantine=Quarantined({}),
    )
    html = render_rerank(bare)
    assert re.findall(r'<section id="(\w+)"', html) == ["cost", "quarantine", "origin"]
    assert re.findall(r'<a href="#(\w+)">', html) == ["cost", "quarantine", "origin"]
    assert "No reranker ran." in html
    assert "No row was rejected." in html
    assert "<figure" not in html


def test_the_index_page_tells_the_plan_and_what_the_gate_refused():
    html = render_index(index_page())
    plan = cells(html, "What changed since the base version")
    assert plan[1] == ["Documents", "412", "1,290", "77", "4,016", "9,120", "18", "6"]
    assert plan[2] == ["Chunks", "75,204", "–", "–", "31,020", "402,311", "–", "–"]
    gate = cells(html, "What a version must satisfy")
    assert gate[-1] == ["Documents deleted", "refused", "31.0%", "at most 20%"]
    assert cells(html, "Time by stage")[-1][:2] == ["Total", "1 h 06 min"]
    assert cells(html, "Some of them")[2][3:] == ["too_large", f"{HOSTILE} and 21 MB of text."]
    assert "none of 75,204 chunks was cut" in html


def test_what_each_stage_did_is_a_table_of_both_pages_if_it_is_known():
    found = cells(render_index(index_page()), "Work by stage")
    assert found[0][:6] == ["Stage", "Rows out", "Tokens", "Workers", "Time", "Busy"]
    assert found[3][:5] == ["encode", "75,204", "11,402,990", "1", "10 min 40 s"]
    assert found[3][5:] == ["43.1%", "2.9%", "51.0%", "0.0%", "1.0%"]
    apart = ["score", "40,012", "9,873,120", "2", "5 min 12 s", "96.2%", "–", "2.1%", "0.4%", "–"]
    assert cells(render_rerank(rerank_page()), "Work by stage")[3] == apart
    assert "Work by stage" not in render_index(replace(index_page(), stages=()))
    assert "Work by stage" not in render_rerank(replace(rerank_page(), stages=()))


def test_an_index_page_of_a_run_with_nothing_to_do():
    page = replace(index_page(), throughput=(), lengths=None, checks=(), rebuild=True)
    html = render_index(replace(page, reasons=("The chunker’s settings changed.",)))
    assert "The gate checked nothing in this run." in html
    assert "The chunker’s settings changed." in html
    assert 'id="encoding"' not in html


def test_bins_are_of_a_round_width_and_hold_everything():
    found = histogram({"all": [0.0, 0.24, 0.25, 1.0, np.nan, np.inf]}, most_bins=4)
    assert found.edges == (0.0, 0.5, 1.0)
    assert found.series[0].counts == (3, 1)
    lengths = histogram({"tokens": [1, 2, 3, 9, 500]}, whole=True, last=8)
    assert lengths.edges == tuple(float(edge) for edge in range(1, 10))
    assert lengths.series[0].counts == (1, 1, 1, 0, 0, 0, 0, 2)
    assert lengths.open_ended
    assert histogram({"none": []}).series[0].counts == (0,)


@example([0.0, -3.768193823963354e-142], False)
@example([1e6, 1e6 + 1e-9], False)
@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.booleans())
def test_no_value_is_lost_between_bins(values, whole):
    numbers = np.rint(values) if whole else np.array(values)
    found = histogram({"all": numbers}, most_bins=10, whole=whole)
    assert sum(found.series[0].counts) == len(values)
    assert 1 <= len(found.edges) - 1 <= 12


def test_bars_stand_where_their_bins_are():
    chart = histogram_chart(histogram({"all": [0, 1, 1, 3]}, whole=True), WORDS)
    assert [bar.label for bar in chart.bars] == ["0: 1 things", "1: 2 things", "3: 1 things"]
    first, second, last = chart.bars
    # Two of two stand as high as the plot, one half as high; four bins share the width.
    assert (second.y, second.height) == (TOP, BOTTOM - TOP)
    assert first.height == (BOTTOM - TOP) / 2
    assert first.x == LEFT
    assert last.x == LEFT + 3 * (RIGHT - LEFT) / 4
    assert chart.rows == (("0", "1"), ("1", "2"), ("2", "0"), ("3", "1"))


def test_two_series_are_drawn_as_shares():
    values = {"other": [0.5, 1.5, 1.5, 1.5], "relevant": [1.5]}
    chart = histogram_chart(histogram(values, most_bins=2), WORDS)
    assert chart.y_label == "share of things"
    assert chart.y_ticks[-1].label == "100%"
    # The outline rises from the ground to the whole of its one value.
    assert min(y for _, y in chart.curves[0].points) == TOP
    assert chart.curves[0].points[0] == (LEFT, BOTTOM)
    assert chart.legend == (("bars", "other"), ("main", "relevant"))


def test_names_at_the_ends_of_lines_do_not_touch():
    sweep = rerank_page().sweep
    chart = sweep_chart(replace(sweep, reranked=sweep.fused, retrieved=sweep.fused[-1]))
    heights = sorted(curve.end for curve in chart.curves)
    assert min(np.diff(heights)) >= 13
    assert "best at depth 50 with 0.584" in chart.description


def test_a_long_run_is_drawn_with_few_points():
    points = [(float(second), 100.0) for second in range(90_000)]
    chart = throughput_chart(points)
    assert len(chart.curves[0].points) == 120
    assert chart.description.startswith("100 chunks per second on average")
    assert throughput_chart([(0.0, 0.0)]).rows == (("0.0 s", "0.0"),)


def test_intervals_share_one_scale_with_no_difference_on_it():
    first, second = intervals(rerank_page().judged.comparisons)
    assert first.zero == second.zero
    assert first.low < first.zero < first.middle < first.high
    assert second.zero < second.low


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 0.17, [0, 0.05, 0.1, 0.15, 0.2]), (0, 7, [0, 5, 10]), (0.519, 0.584, [0.5, 0.55, 0.6])],
)
def test_an_axis_ends_on_round_values(low, high, expected):
    assert round_values(low, high, 6 if high < 0.5 else 5) == expected
    assert values_within(-16, 11, 7) == [-15, -10, -5, 0, 5, 10]


def test_numbers_are_written_as_people_read_them():
    assert formats.signed(-0.0001) == "0.000"
    assert formats.signed(-0.25, 2) == "−0.25"
    assert formats.decimal(-1234.5, 1) == "−1,234.5"
    assert formats.probability(0.00009) == "< 0.0001"
    assert formats.share(0.1234) == "12.3%"
    assert [formats.duration(seconds) for seconds in (5.25, 59.99, 61, 3725)] == [
        "5.2 s",
        "60.0 s",
        "1 min 01 s",
        "1 h 02 min",
    ]
    assert formats.shorten("abcdef", 4) == "abc…"
