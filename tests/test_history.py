"""Any history of a table: after every step readers see what plain Python says they see."""

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny_models
from fake_models import fake_models, vector_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from running import configured, live_rows, run_plan, write_jsonl

from pipelines.config import Keep
from pipelines.corpus.identity import passage
from pipelines.errors import InputMissing, NotPublished
from pipelines.indexing import index
from pipelines.request import Request
from pipelines.summary import IndexSummary
from pipelines.table.place import Place
from pipelines.table.publish import live_version
from pipelines.table.release import publish_pending, roll_back

pytestmark = pytest.mark.usefixtures("cluster")

IDS = [f"d{n:02}" for n in range(12)]
TEXTS = [f"text {n} of few words" for n in range(8)]
STAGES = ["Read", "Plan", "Encode", "Compact", "Index", "Check"]


class Crash(Exception):  # noqa: N818
    """The end of a driver, at the beginning or the end of a stage."""


class Crashing:
    """A progress that ends the run where it is told to."""

    def __init__(self, stage=None, at_end=False):
        self._stage, self._at_end = stage, at_end

    def say(self, line):
        pass

    @contextmanager
    def track(self, name, unit, read):
        if name == self._stage and not self._at_end:
            raise Crash
        yield
        if name == self._stage:
            raise Crash


class History(RuleBasedStateMachine):
    """A table, and beside it what it should be: of each published version, its documents."""

    models: tuple[Path, Path]

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.corpus = {IDS[0]: (TEXTS[0], "en"), IDS[1]: (TEXTS[1], "de")}
        self.seed = 0
        self.live = None  # documents and seed
        self.version = None
        self.published = {}
        self.waiting = None  # what `publish` publishes: version, documents and seed, base
        self.hold = False
        self.known = set()  # passages and seeds that stand in `live` or in the ledger

    def teardown(self):
        shutil.rmtree(self.folder)

    # The corpus changes.

    @rule(doc_id=st.sampled_from(IDS), text=st.sampled_from(TEXTS), lang=st.sampled_from("xy"))
    def add_or_edit(self, doc_id, text, lang):
        self.corpus[doc_id] = (text, lang)

    @rule(data=st.data(), lang=st.sampled_from("pq"))
    def edit_metadata(self, data, lang):
        doc_id = data.draw(st.sampled_from(sorted(self.corpus)))
        self.corpus[doc_id] = (self.corpus[doc_id][0], lang)

    @precondition(lambda self: len(self.corpus) > 1)
    @rule(data=st.data())
    def delete(self, data):
        del self.corpus[data.draw(st.sampled_from(sorted(self.corpus)))]

    @rule(data=st.data(), doc_id=st.sampled_from(IDS))
    def move(self, data, doc_id):
        self.corpus[doc_id] = self.corpus.pop(data.draw(st.sampled_from(sorted(self.corpus))))

    @rule()
    def change_model(self):
        self.seed = 1 - self.seed

    # The table is worked on.

    @rule()
    def index(self):
        target = (dict(self.corpus), self.seed)
        try:
            summary = self.run()
        except NotPublished:
            assert self.hold
            assert target != self.live
            self.waiting = (target, self.version)
        else:
            assert not self.hold or target == self.live
            assert summary.live == live_version(self.place)
            if target != self.live:
                self.show(target)
        self.remember()

    @rule(stage=st.sampled_from(STAGES), at_end=st.booleans())
    def crash(self, stage, at_end):
        target = (dict(self.corpus), self.seed)
        try:
            self.run(Crashing(stage, at_end))
        except Crash:
            # It may have been checked before it died.
            if stage == "Check" and at_end:
                self.waiting = (target, self.version)
        except NotPublished:
            assert self.hold
            self.waiting = (target, self.version)
        else:
            if target != self.live:
                self.show(target)

    @precondition(lambda self: self.live is not None and set(self.live[0]) - set(self.corpus))
    @rule()
    def be_refused(self):
        if self.seed == self.live[1]:
            with pytest.raises(NotPublished, match=r"max_deleted_fraction|rolled back"):
                self.run(publish={"max_deleted_fraction": 0.0})
            self.remember()

    @precondition(lambda self: self.live is not None)
    @rule()
    def roll_back(self):
        earlier = [version for version in self.published if version < self.version]
        if not earlier:
            with pytest.raises(InputMissing):
                roll_back(self.place, None)
            return
        assert roll_back(self.place, None) == (self.version, max(earlier))
        self.version, self.hold = max(earlier), True
        self.live = self.published[self.version]
        self.forget()

    @precondition(lambda self: self.live is not None)
    @rule()
    def publish(self):
        _, found = publish_pending(self.place, Keep())
        self.hold = False
        if found is not None:
            assert self.waiting is not None
            target, base = self.waiting
            assert base == self.version
            self.show(target)
            assert self.version == found.version

    # What must hold.

    @invariant()
    def readers_see_what_is_live(self):
        if self.live is None:
            assert live_version(self.place) is None
            return
        documents, seed = self.live
        found = {row["doc_id"]: row for row in live_rows(self.folder)}
        assert {name: (row["text"], row["lang"]) for name, row in found.items()} == documents
        for name, row in found.items():
            expected = vector_of(passage(None, documents[name][0]), seed)
            assert abs(row["vector"] - expected).max() < 1e-6

    def show(self, target):
        self.live, self.waiting = target, None
        self.version = live_version(self.place)
        self.published[self.version] = target
        self.forget()

    def forget(self):
        """What was staged and published stands in `live` or, if that moved on, nowhere."""
        documents, seed = self.live
        self.known = {(text, seed) for text, _ in documents.values()}

    def remember(self):
        self.known |= {(text, self.seed) for text, _ in self.corpus.values()}

    @property
    def place(self):
        return Place(str(self.folder / "index"), "chunks")

    def run(self, progress=None, publish=None):
        rows = [
            {"id": name, "text": text, "lang": lang} for name, (text, lang) in self.corpus.items()
        ]
        write_jsonl(self.folder / "corpus.jsonl", rows)
        config = configured(
            self.folder,
            self.models[self.seed],
            corpus={"metadata": ["lang"]},
            publish=publish or {"max_deleted_fraction": 1.0},
        )
        models = fake_models(other=bool(self.seed))
        expected = run_plan(config, models)
        summary = IndexSummary()
        index(config, summary, progress or Crashing(), Request(), models)
        assert summary.documents == expected.documents
        assert summary.chunks == expected.chunks
        assert summary.encoded == expected.encoded
        unknown = {(text, self.seed) for text, _ in self.corpus.values()} - self.known
        assert summary.encoded <= len(unknown)
        return summary


@pytest.fixture(scope="module", autouse=True)
def two_models(tmp_path_factory, small_encoder):
    folder = tmp_path_factory.mktemp("other-model")
    History.models = (small_encoder, tiny_models.encoder(folder / "encoder", seed=5))


def run(examples, steps, derandomize):
    from hypothesis.stateful import run_state_machine_as_test

    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=derandomize,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(History, settings=chosen)


@pytest.mark.timeout(280)
def test_some_histories():
    run(3, 10, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_histories():
    run(60, 30, derandomize=False)
