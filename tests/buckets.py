"""An object store on this machine: moto's server."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.storage.objects import ObjectPath


def options_of(endpoint):
    """What opens a store at an endpoint."""
    return {
        "aws_endpoint": endpoint,
        "aws_access_key_id": "someone",
        "aws_secret_access_key": "a-word-that-nobody-reads",
        "aws_region": "us-east-1",
        "allow_http": "true",
    }


@dataclass(frozen=True)
class Bucket:
    """A bucket, and what opens it."""

    endpoint: str
    name: str

    @classmethod
    def new(cls, endpoint):
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        made = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
        urllib.request.urlopen(made).close()
        return cls(endpoint, name)

    @property
    def url(self):
        return f"s3://{self.name}"

    @property
    def options(self):
        return options_of(self.endpoint)

    def path(self, name):
        return ObjectPath.of(f"{self.url}/{name}", self.options)

    def upload(self, folder, name):
        """Put all files of a folder below a name."""
        for file in Path(folder).rglob("*"):
            if file.is_file():
                self.path(f"{name}/{file.relative_to(folder).as_posix()}").upload(file)
        return self.path(name)


@contextmanager
def serving():
    """An empty store; gives its endpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(endpoint).close()
                break
            except urllib.error.URLError:
                assert time.monotonic() < until, "moto's server does not answer"
                assert server.poll() is None, "moto's server ended"
                time.sleep(0.1)
        yield endpoint
    finally:
        server.terminate()
        server.wait()
