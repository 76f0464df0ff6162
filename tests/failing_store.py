"""A proxy before an object store that refuses, stalls and cuts connections, drawn from a seed."""

import http.client
import random
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_UNAVAILABLE = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>later</Message></Error>"
_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "host"}


class Faults:
    """What a proxy does wrong, drawn from a seed: a share of the requests each.

    Attributes:
        refused: answered with 503.
        cut: the connection ends in the middle of the answer.
        stalled: nothing comes for `stall_seconds`, and then the connection ends.
        done: how many of each there were.
    """

    def __init__(self, seed, refused=0.0, cut=0.0, stalled=0.0, stall_seconds=1.0):
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._shares = {"refused": refused, "cut": cut, "stalled": stalled}
        self.stall_seconds = stall_seconds
        self.done = dict.fromkeys(self._shares, 0)

    def draw(self):
        """What happens to the next request, None if nothing does."""
        with self._lock:
            drawn = self._random.random()
            for name, share in self._shares.items():
                drawn -= share
                if drawn < 0:
                    self.done[name] += 1
                    return name
        return None


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on, unless a fault is drawn."""

    protocol_version = "HTTP/1.1"

    def __init__(self, target, faults, *given):
        self.target, self.faults = target, faults
        super().__init__(*given)

    def forward(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        fault = self.faults.draw()
        if fault == "refused":
            self.answer(503, {"Content-Length": str(len(_UNAVAILABLE))}, _UNAVAILABLE)
        elif fault == "stalled":
            time.sleep(self.faults.stall_seconds)
            self.close_connection = True
        else:
            self.answer(*self.asked(body), cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815 - as it looks for them

    def asked(self, body):
        """What the store answers: status, headers, content."""
        connection = http.client.HTTPConnection(self.target, timeout=60)
        connection.request(self.command, self.path, body, _passed_on(self.headers))
        found = connection.getresponse()
        content = found.read()
        connection.close()
        length = found.getheader("Content-Length") if self.command == "HEAD" else len(content)
        return found.status, _passed_on(found.headers) | {"Content-Length": str(length)}, content

    def answer(self, status, headers, content, cut=False):
        self.close_connection = self.close_connection or cut
        if cut and not content:
            return  # it is done, and the answer is lost
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True  # the client gave up

    def log_message(self, *_):
        """Nothing is said."""


def _passed_on(headers):
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}


class Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def failing(endpoint, faults):
    """A proxy before a store; gives its endpoint."""
    target = endpoint.removeprefix("http://")
    server = Server(("127.0.0.1", 0), partial(Proxy, target, faults))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
