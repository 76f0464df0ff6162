"""Clusters of a head and two nodes, with a dashboard and a token, apart from the tests' own Ray.

    python tests/three_nodes.py

prints the address of such a cluster's dashboard; a line on its standard input kills the last node,
and the cluster ends with that input. The environment has the token, and no cluster to join.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

TOKEN = "5" * 64
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    # As in a cluster that a command starts: workers without a task are kept.
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
}
HERE = Path(__file__).resolve().parent


def outside(**settings):
    """The environment of this process without what it says of Ray or of code, and with settings."""
    ours = ("RAY_", "PYTHONPATH")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | settings


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Nodes:
    """A head and two nodes of `ray.cluster_utils`, one CPU each, in a process of their own."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "three_nodes.py")],
            env=outside(**SETTINGS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self._process.stdout.readline().strip()

    def lose_one(self):
        """Kill the last node as a power cut does."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "lost\n"

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)


def main():
    soon = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 4,
    }
    head = {"include_dashboard": True, "dashboard_port": free_port(), "_system_config": soon}
    with folders() as own:
        # Where Ray notes which cluster was started last on this machine.
        os.environ["RAY_TMPDIR"] = str(Path(own[0]).parent)
        import ray.cluster_utils

        nodes = [
            {"num_cpus": 1, "temp_dir": folder, "dashboard_agent_listen_port": free_port()}
            for folder in own
        ]
        cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=nodes[0] | head)
        _, last = [cluster.add_node(**options) for options in nodes[1:]]
        cluster.wait_for_nodes()
        print(f"http://{cluster.head_node.webui_url}", flush=True)
        for _ in sys.stdin:
            cluster.remove_node(last, allow_graceful=False)
            print("lost", flush=True)
        cluster.shutdown()
    os._exit(0)  # what ends a process of Ray's minds that a node is gone


@contextmanager
def folders():
    """A folder for each of three nodes, which each unpacks what is uploaded, as machines do.

    In one that they share each would remove what the others run. Their sockets need short paths.
    """
    with tempfile.TemporaryDirectory(prefix="tr", dir="/tmp", ignore_cleanup_errors=True) as folder:
        # Ray calls the first one so itself.
        yield [str(Path(folder) / name) for name in ("ray", "b", "c")]


@contextmanager
def started_by_hand():
    """The same of processes of `ray start`, on ports of their own; the dashboard's address."""
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = [*ray, "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    port, dashboard = free_port(), free_port()
    address = f"http://127.0.0.1:{dashboard}"
    processes = []

    def node(folder, *options):
        agent = f"--dashboard-agent-listen-port={free_port()}"
        words = [*start, agent, f"--temp-dir={folder}", "--node-ip-address=127.0.0.1", *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(words, env=outside(**SETTINGS), **quiet))

    with folders() as (first, *others):
        try:
            client = f"--ray-client-server-port={free_port()}"
            node(first, "--head", f"--port={port}", f"--dashboard-port={dashboard}", client)
            wait_for(lambda: answers(address))
            for folder in others:
                node(folder, f"--address=127.0.0.1:{port}")
            wait_for(lambda: len(work(address)) == 3)
            yield address
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait(timeout=60)


def wait_for(ready, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def answers(address):
    try:
        with urlopen(f"{address}/api/version", timeout=5):
            return True
    except URLError as error:
        return getattr(error, "code", None) == 401


WORK = """
import collections, json, sys
from ray.util.state import list_nodes, list_tasks
address = sys.argv[1]
tasks = list_tasks(address=address, limit=10_000, raise_on_missing_output=False)
ran = collections.Counter(task.node_id for task in tasks if task.name.endswith("Chunks)).submit"))
alive = [node.node_id for node in list_nodes(address=address) if node.state == "ALIVE"]
print(json.dumps([ran[name] for name in alive]))
"""


def work(address):
    """How many blocks of chunks the encoders on each living node have been given."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, address],
        env=outside(**SETTINGS),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
