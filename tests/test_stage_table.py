"""What stages did, by statistics of the shape that Ray gives them and of others."""

from types import SimpleNamespace as Made

import pytest

from pipelines.stage_table import Span, StageWork, Watch, Watched, idle_sentence, stage_table

STAGES = [
    Watched("read", "ReadCorpus", 4, rows="documents"),
    Watched("chunk", "Chunk", 4, rows="chunks"),
    Watched("claim", "Claim", 4),
    Watched("encode", "Encode", 2, actors=True, tokens="encoded_tokens"),
    Watched("stage", "Stage", 4, sink=True),
]
TOLD = {"documents": 70, "chunks": 90, "encoded_tokens": 5000.0}
SPAN = Span(1000.0, 1010.0, one_clock=True)


def operator(name, body, rows, before, parts=(), tasks=2, came=0, metrics=(0.0, 0.0), span=(1, 9)):
    """An operator's summary, with that of the one before it as its only parent.

    `metrics` are the seconds within tasks, and those of output that was not taken; `span` the
    seconds after the pipeline's start at which the first block began and the last ended.
    """
    done = Made(
        operator_name=name,
        function_body_time=Made(sum=body),
        stage_time=[Made(sum=seconds) for seconds in parts] or None,
        output_num_rows=Made(sum=rows),
        total_input_num_rows=came,
        task_rows=Made(count=tasks),
        earliest_start_time=SPAN.began + span[0],
        latest_end_time=SPAN.began + span[1],
    )
    names = ("task_worker_completion_time_s", "task_output_backpressure_time_s")
    return Made(
        operators_stats=[done],
        extra_metrics=dict(zip(names, metrics, strict=True)),
        parents=[before] if before else [],
    )


def pipeline():
    nothing = Made(operators_stats=[], extra_metrics={}, parents=[])
    read = operator("ReadCorpus->SplitBlocks(4)", 2, 70, nothing, tasks=1, metrics=(2.5, 3.0))
    fused = "MapBatches(Chunk)->MapBatches(Claim)"
    cut = operator(fused, 9, 80, read, parts=(6, 4), metrics=(10, 0), span=(2, 8))
    encoded = operator("MapBatches(Encode)", 8, 80, cut, metrics=(9, 1), span=(4, 9))
    return operator("MapBatches(Stage)", 1, 3, encoded, came=80, metrics=(1, 0))


def table(summary, stages=STAGES, span=SPAN):
    return stage_table(lambda: summary, stages, span, TOLD)


def test_every_stage_has_its_rows_and_shares_of_its_workers_time():
    assert table(pipeline()) == [
        # One task of 10 s: 2 s in the function, 0.5 s Ray's, 1 s before, 1 s after, 3 s held back.
        StageWork("read", 70, None, 1, 10.0, 0.2, 0.1, 0.25, 0.3, 0.1),
        # Fused: 6 s and 4 s of two tasks' 20 s; rows of the first as they were told.
        StageWork("chunk", 90, None, 2, 10.0, 0.3, 0.2, 0.1, 0.0, 0.2),
        StageWork("claim", 80, None, 2, 10.0, 0.2, 0.2, 0.1, 0.0, 0.2),
        StageWork("encode", 80, 5000, 2, 10.0, 0.4, 0.4, 0.0, 0.05, 0.1),
        # What it passed on was not staged.
        StageWork("stage", 77, None, 2, 10.0, 0.05, 0.1, 0.75, 0.0, 0.1),
    ]


def test_a_pipeline_over_another_ones_rows_is_told_alone():
    copied = operator("MapBatches(FindVectors)", 1, 3, pipeline(), tasks=1)
    staged = operator("MapBatches(Stage)", 1, 0, copied, came=3, tasks=1)
    watched = [Watched("copy", "FindVectors", 2), Watched("stage copies", "Stage", 2, sink=True)]
    assert [(work.stage, work.rows) for work in table(staged, watched)] == [
        ("copy", 3),
        ("stage copies", 3),
    ]


@pytest.mark.parametrize(
    "span",
    [Span(1000.0, 1010.0, one_clock=False), Span(5000.0, 5010.0, one_clock=True)],
    ids=["several nodes", "another clock than it was said to be"],
)
def test_clocks_that_differ_are_not_compared(span):
    encode = table(pipeline(), span=span)[3]
    # 20 s of actors, 9 in tasks, 1 held back.
    assert (encode.starting, encode.finished) == (None, None)
    assert (encode.busy, encode.waiting_for_input, encode.waiting_for_output) == (0.4, 0.5, 0.05)


def test_more_time_than_there_was_stays_a_share():
    much = operator("MapBatches(Encode)", 90, 1, None, metrics=(95, 80), span=(0, 10))
    (work,) = table(much, [STAGES[3]])
    assert work == StageWork("encode", 1, 5000, 2, 10.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def changed(**values):
    summary = pipeline()
    for name, value in values.items():
        setattr(summary.operators_stats[0], name, value)
    return summary


@pytest.mark.parametrize(
    "summary",
    [
        None,
        object(),
        changed(operator_name="MapBatches(Other)"),
        changed(operator_name=None),
        changed(function_body_time=None),
        changed(output_num_rows=None),
        changed(earliest_start_time=None),
        Made(operators_stats=pipeline().operators_stats, extra_metrics={}, parents=[]),
        operator("MapBatches(Claim)->MapBatches(Encode)->MapBatches(Stage)", 1, 1, None),
        operator("MapBatches(Encode)->MapBatches(Stage)", 1, 1, pipeline(), parts=(1, 2, 3)),
    ],
    ids=range(10),
)
def test_statistics_of_another_shape_leave_the_table_out(summary):
    assert table(summary) is None


def test_what_cannot_be_told_once_is_not_told_at_all():
    class Dataset:
        def __init__(self, summary):
            self.summary = summary

        def materialize(self):
            return self

        def get_stats_summary(self):
            return self.summary

    watch = Watch(lambda: TOLD, one_clock=True)
    assert watch.rows == []
    watch.execute(Dataset(pipeline()), STAGES)
    watch.execute(Dataset(pipeline()), STAGES[3:])
    assert [work.stage for work in watch.rows] == [*(w.stage for w in STAGES), "encode", "stage"]
    odd = Dataset(object())
    assert watch.execute(odd, STAGES) is odd
    watch.execute(Dataset(pipeline()), STAGES)
    assert watch.rows is None


def test_a_model_that_waited_more_than_it_worked_is_said():
    idle = StageWork("encode", 9, 9, 1, 80.0, 0.31, 0.2, 0.42, 0.05, 0.02)
    assert idle_sentence([idle]) == (
        "The model's actors were busy for 31% of the 80 s of stage encode: 20% before their first "
        "rows, 2% after the last, 42% waiting for input, 5% waiting for output to be taken."
    )
    apart = StageWork("score", 9, 9, 1, 80.0, 0.31, None, 0.42, 0.05, None)
    assert idle_sentence([apart]).endswith(
        "stage score: 42% starting or without input, 5% waiting for output to be taken."
    )
    busy = StageWork("encode", 9, 9, 1, 80.0, 0.5, 0.2, 0.3, 0.0, 0.0)
    read = StageWork("read", 9, None, 1, 80.0, 0.1, 0.2, 0.3, 0.0, 0.0)
    short = StageWork("encode", 9, 9, 1, 50.0, 0.01, 0.9, 0.09, 0.0, 0.0)
    assert idle_sentence([read, busy, short]) is None
    assert idle_sentence([]) is None
    assert idle_sentence(None) is None
