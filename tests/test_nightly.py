"""The nightly job against an API that answers as Kubernetes and KubeRay do, over HTTP."""

import http.client
import importlib.util
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from manifests import KUBERAY, documents, require_kuberay_takes

SCRIPT = KUBERAY / "base" / "nightly.py"
RAYJOBS = "/apis/ray.io/v1/namespaces/tandem/rayjobs"


@pytest.fixture(scope="module")
def nightly():
    spec = importlib.util.spec_from_file_location("nightly", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["nightly"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["nightly"]


RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}


def failed(code):
    said = f"Job entrypoint command failed with exit code {code}, last available logs: …"
    return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": said}


class Cluster:
    """RayJobs by name; each that is created goes through the states that are scripted for it."""

    def __init__(self, states, troubles=()):
        self.jobs, self.states, self.troubles = {}, states, list(troubles)
        self.seen = []

    def answer(self, method, path, headers, body):
        self.seen.append((method, path.removeprefix(RAYJOBS)))
        if headers["Authorization"] != "Bearer the-token":
            return 401, {"message": "Unauthorized"}
        if self.troubles:
            return self.troubles.pop(0), {}
        name = body["metadata"]["name"] if body else path.rsplit("/", 1)[1]
        if method == "POST":
            if name in self.jobs:
                return 409, {"message": "already exists"}
            self.jobs[name] = body
            return 201, body
        if name not in self.jobs:
            return 404, {"message": "not found"}
        left = self.states.get(name, [])
        status = left.pop(0) if len(left) > 1 else (left or [{}])[0]
        return 200, self.jobs[name] | {"status": status}


@pytest.fixture
def serve(nightly):
    """Serves a cluster; the client to reach it."""
    servers = []

    def start(cluster, token="the-token"):
        class Handler(BaseHTTPRequestHandler):
            def reply(self):
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                status, found = cluster.answer(self.command, self.path, self.headers, body)
                content = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = reply  # noqa: N815 - the names that the server looks for

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        port = server.server_address[1]
        return nightly.Kubernetes(
            lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=5),
            lambda: token,
            "tandem",
            patience=0.2,
            pause=0.01,
        )

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def templates():
    """The index template, and the rerank template that is one by another name."""
    (index,) = documents(KUBERAY / "base" / "rayjob" / "rayjob.yaml")
    index["metadata"] |= {"labels": {"a": "b"}, "uid": "of-the-template", "resourceVersion": "7"}
    rerank = json.loads(json.dumps(index))
    rerank["metadata"]["name"] = "tandem-rerank"
    return {found["metadata"]["name"]: found for found in (index, rerank)}


def cluster_with(index, rerank=(DONE,), troubles=()):
    states = {"tandem-index-nightly-1": list(index), "tandem-rerank-nightly-1": list(rerank)}
    cluster = Cluster(states, troubles)
    cluster.jobs |= templates()
    return cluster


def run(nightly, kubernetes, uid="u1", name="nightly-1"):
    owner = nightly.Owner(name, uid)
    return nightly.night(kubernetes, ["tandem-index", "tandem-rerank"], owner)


def test_both_templates_are_run_in_order_and_watched_to_their_end(nightly, serve, capsys):
    cluster = cluster_with([{}, RUNNING, RUNNING, DONE], [RUNNING, DONE])
    assert run(nightly, serve(cluster)) == 0
    created = [name for name in cluster.jobs if name.endswith("-nightly-1")]
    assert created == ["tandem-index-nightly-1", "tandem-rerank-nightly-1"]
    assert cluster.seen.count(("GET", "/tandem-index-nightly-1")) == 4
    posts = [place for place, (method, _) in enumerate(cluster.seen) if method == "POST"]
    assert cluster.seen[posts[1] - 2] == ("GET", "/tandem-index-nightly-1")
    assert capsys.readouterr().out.splitlines() == [
        "tandem-index-nightly-1: created.",
        "tandem-index-nightly-1: Running RUNNING",
        "tandem-index-nightly-1: Complete SUCCEEDED",
        "tandem-index-nightly-1: ended with 0.",
        "tandem-rerank-nightly-1: created.",
        "tandem-rerank-nightly-1: Running RUNNING",
        "tandem-rerank-nightly-1: Complete SUCCEEDED",
        "tandem-rerank-nightly-1: ended with 0.",
    ]


def test_a_run_is_its_template_not_suspended_and_owned_by_the_job(nightly):
    template = templates()["tandem-index"]
    made = nightly.run_of(template, nightly.Owner("nightly-1", "u1"))
    assert made["metadata"] == {
        "name": "tandem-index-nightly-1",
        "labels": {"a": "b"},
        "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-1", "uid": "u1"}
        ],
    }
    assert made["spec"] == template["spec"] | {"suspend": False}
    with pytest.raises(nightly.NightError, match="is too long") as error:
        nightly.run_of(template, nightly.Owner("n" * 36, "u1"))
    assert error.value.code == 2
    # What the CronJob's controller adds to its name: minutes since 1970, eight digits until 2160.
    assert len("tandem-rerank-nightly-29384756") <= nightly.LONGEST_NAME


def test_a_run_is_what_kuberay_takes(nightly):
    made = nightly.run_of(templates()["tandem-index"], nightly.Owner("nightly-1", "u1"))
    require_kuberay_takes(made)


@pytest.mark.parametrize(
    ("index", "rerank", "code", "reranked"),
    [
        (failed(1), DONE, 1, False),
        (failed(2), DONE, 2, False),
        (failed(3), DONE, 3, True),
        (failed(4), DONE, 4, False),
        (DONE, failed(2), 2, True),
        (failed(3), failed(1), 3, True),
        (failed(137), DONE, 1, False),
        (failed(-15), DONE, 1, False),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, DONE, 1, False),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, DONE, 1, False),
        ({"jobDeploymentStatus": "ValidationFailed", "reason": "x"}, DONE, 2, False),
    ],
)
def test_the_job_ends_as_its_runs_do(nightly, serve, index, rerank, code, reranked):
    cluster = cluster_with([RUNNING, index], [RUNNING, rerank])
    assert run(nightly, serve(cluster)) == code
    assert ("tandem-rerank-nightly-1" in cluster.jobs) == reranked


def test_a_retry_of_kuberay_s_is_waited_for(nightly, serve):
    retrying = {"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}
    assert run(nightly, serve(cluster_with([RUNNING, retrying, {}, RUNNING, DONE]))) == 0


def test_what_kuberay_says_of_a_failure_is_told(nightly, serve, capsys):
    run(nightly, serve(cluster_with([failed(3) | {"reason": "AppFailed"}])))
    told = "ended with 3. AppFailed Job entrypoint command failed with exit code 3, last"
    assert told in capsys.readouterr().out


def test_another_pod_of_the_same_job_goes_on_with_its_run(nightly, serve, capsys):
    cluster = cluster_with([RUNNING, DONE])
    owner = nightly.Owner("nightly-1", "u1")
    cluster.jobs["tandem-index-nightly-1"] = nightly.run_of(cluster.jobs["tandem-index"], owner)
    assert run(nightly, serve(cluster)) == 0
    assert capsys.readouterr().out.startswith("tandem-index-nightly-1: goes on.\n")


def test_a_run_of_another_job_is_left_alone(nightly, serve):
    cluster = cluster_with([RUNNING, DONE])
    assert run(nightly, serve(cluster)) == 0
    with pytest.raises(nightly.NightError, match="of another job; delete it first"):
        run(nightly, serve(cluster), uid="u2")


def test_trouble_that_passes_does_no_harm_and_trouble_that_stays_ends_with_75(nightly, serve):
    cluster = cluster_with([RUNNING, DONE], troubles=[503, 429])
    assert run(nightly, serve(cluster)) == 0
    with pytest.raises(nightly.NightError, match="cannot be reached: it answers 500") as error:
        run(nightly, serve(cluster_with([DONE], troubles=[500] * 1000)))
    assert error.value.code == 75
    nobody = nightly.Kubernetes(
        lambda: http.client.HTTPConnection("127.0.0.1", 1, timeout=1),
        lambda: "the-token",
        "tandem",
        patience=0.05,
        pause=0.01,
    )
    with pytest.raises(nightly.NightError, match="ConnectionRefusedError") as error:
        run(nightly, nobody)
    assert error.value.code == 75


def test_what_is_not_there_or_not_allowed_is_one_sentence(nightly, serve):
    cluster = cluster_with([RUNNING])
    with pytest.raises(nightly.NightError, match="answered 401: Unauthorized"):
        run(nightly, serve(cluster, token="another"))
    del cluster.jobs["tandem-index"]
    with pytest.raises(nightly.NightError, match="no RayJob tandem-index in the namespace tandem"):
        run(nightly, serve(cluster))


def test_the_command_says_what_is_wrong_and_needs_no_package(tmp_path):
    variables = {"JOB_NAME": "nightly-1", "JOB_UID": "u1", "NAMESPACE": "tandem"}
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), "tandem-index"],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "KUBERNETES_SERVICE_HOST" in result.stderr
