"""Runs a `tandem` command that is killed, stopped or failed on purpose at a named point.

    python tests/killed.py '{"at": "module:name", "when": "before", "do": "kill"}' index tandem.yaml

What is run is the real command; only the function at the point is wrapped. With "ledger" instead
of "at" the process acts when so many entries are staged, or files of a "pattern". "do" is "kill"
(SIGKILL to itself), "raise" (an error in the driver), "stop" (SIGSTOP to itself: it sleeps until
SIGCONT), "term" (SIGTERM to itself) or "wait" (until the file "until" exists). "without" lists
protections to leave out ("lease": the lease is not asked), "fake" is a pickled description of an
encoder whose vectors are made without a model, "fake_rerank" those of an encoder and a scorer.
"""

import functools
import importlib
import json
import os
import pickle
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path


def act(plan):
    kind = plan.get("do", "kill")
    if "touch" in plan:
        Path(plan["touch"]).touch()
    if kind == "raise":
        raise ConnectionError("the answer was lost")
    if kind == "wait":
        while not Path(plan["until"]).exists():
            time.sleep(0.01)
        return
    signals = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}
    os.kill(os.getpid(), signals[kind])


def wrap(plan):
    module, _, path = plan["at"].partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    plain = getattr(owner, name)
    left = [plan.get("call", 1)]

    @functools.wraps(plain)
    def wrapped(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0 and plan.get("when") != "after":
            act(plan)
        result = plain(*args, **kwargs)
        if left[0] == 0 and plan.get("when") == "after":
            act(plan)
        return result

    setattr(owner, name, wrapped)


def watch(plan):
    from pipelines.storage.places import located

    def loop():
        folder = located(plan["folder"], plan.get("options", {}))
        while len(list(folder.glob(plan.get("pattern", "*.arrow")))) < plan["ledger"]:
            time.sleep(0.01)
        act(plan)

    threading.Thread(target=loop, daemon=True).start()


def leave_out(name):
    if name == "lease":
        from pipelines import indexing
        from pipelines.table import lease

        class Nobody:
            def require(self):
                pass

        @contextmanager
        def unleased(*_, **__):
            yield Nobody()

        indexing.leased = lease.leased = unleased


def use_fake(file):
    from fake_models import fake_models

    from pipelines import indexing
    from pipelines.index_job import Models

    spec = pickle.loads(Path(file).read_bytes())
    stage = fake_models(seconds=float(os.environ.get("FAKE_SECONDS", "0"))).stage
    models = Models(lambda _: spec, stage)
    indexing.index = functools.partial(indexing.index, models=models)


def use_fake_rerank(file):
    from fake_models import fake_rerank_models

    from pipelines import reranking

    specs = pickle.loads(Path(file).read_bytes())
    models = fake_rerank_models(float(os.environ.get("FAKE_SECONDS", "0")), specs)
    reranking.rerank = functools.partial(reranking.rerank, models=models)


def main():
    plan, words = json.loads(sys.argv[1]), sys.argv[2:]
    if "fake" in plan:
        use_fake(plan["fake"])
    if "fake_rerank" in plan:
        use_fake_rerank(plan["fake_rerank"])
    for name in plan.get("without", ()):
        leave_out(name)
    if "at" in plan:
        wrap(plan)
    if "ledger" in plan:
        watch(plan)
    from jobs.__main__ import main as tandem

    sys.argv = ["tandem", *words]
    tandem()


if __name__ == "__main__":
    main()
