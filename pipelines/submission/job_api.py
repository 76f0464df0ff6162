"""The job API of a Ray cluster, as its dashboard serves it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from pipelines.errors import ClusterUnreachable, TandemError, UsageError
from pipelines.submission.attempts import Attempt
from pipelines.submission.upload import ENVIRONMENT

# An upload takes a while to be taken in.
_TIMEOUT_SECONDS = (10, 120)
_STATUS = re.compile(r"status code (\d+): (.*)", re.DOTALL)
_ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
# They say of every upload that it is one, of every connection that it ended.
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
    "ray._private.authentication",
)


class _Client(JobSubmissionClient):
    """Ray's client, whose requests otherwise wait for ever."""

    def __init__(self, address: str, timeout_seconds: tuple[float, float]) -> None:
        self._timeout_seconds = timeout_seconds
        super().__init__(address)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:  # noqa: ANN401
        return super()._do_request(method, endpoint, timeout=self._timeout_seconds, **options)


class JobApi:
    """The jobs of the cluster whose dashboard is at an address.

    Args:
        address: an http or https address without a path.
        folder: the working directory of what is started.
        entry_point: the shell's line that is run in it.
        timeout_seconds: for how long a request waits to connect, and for the next piece of an
            answer.

    Raises:
        ClusterUnreachable: no cluster answers there.
        UsageError: it takes no request without its token.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        entry_point: str,
        timeout_seconds: tuple[float, float] = _TIMEOUT_SECONDS,
    ) -> None:
        self._address, self._folder, self._entry_point = address, folder, entry_point
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._told(), _preferred(address):
            self._client = _Client(address, timeout_seconds)

    def find(self, submission_id: str) -> Attempt | None:
        """An attempt, None where the cluster knows none of this id."""
        try:
            with self._told():
                return _attempt(self._client.get_job_info(submission_id))
        except _Unknown:
            return None

    def start(self, submission_id: str) -> bool:
        """Upload the working directory and start an attempt; False if there is one of this id."""
        environment = {"working_dir": str(self._folder), "env_vars": ENVIRONMENT}
        try:
            with self._told():
                self._client.submit_job(
                    entrypoint=self._entry_point,
                    submission_id=submission_id,
                    runtime_env=environment,
                )
        except _Taken:
            return False
        return True

    def stop(self, submission_id: str) -> None:
        """Send SIGTERM to an attempt; it ends when what is in flight is staged."""
        with self._told():
            self._client.stop_job(submission_id)

    def logs(self, submission_id: str) -> str:
        """What an attempt has written so far."""
        with self._told():
            return self._client.get_job_logs(submission_id)

    async def tail(self, submission_id: str) -> AsyncGenerator[str, None]:
        """What an attempt has written, from its start, and what it goes on to write."""
        with self._told():
            async for text in self._client.tail_job_logs(submission_id):
                yield text

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What Ray's client raises as errors of ours."""
        try:
            yield
        except AuthenticationError:
            raise UsageError(
                f"The cluster at {self._address} takes no request without its token; put the token "
                "into RAY_AUTH_TOKEN, or name a file that holds it in RAY_AUTH_TOKEN_PATH."
            ) from None
        except (OSError, aiohttp.ClientError):
            raise self._unreachable() from None
        except RuntimeError as error:
            raise self._ours(str(error)) from error

    def _ours(self, message: str) -> TandemError:
        """Ray's client tells what went wrong by its text alone."""
        if "already exists" in message:
            return _Taken(message)
        found = _STATUS.search(message)
        if found is None and ("WebSocket" in message or "Version check" in message):
            return self._unreachable()
        status, told = found.groups() if found is not None else ("", message)
        if status == "404":
            return _Unknown(message)
        # Of a traceback the last line says why.
        why = (told.strip().splitlines() or [""])[-1].rstrip(".")
        # A head node that starts, or that lost its agent, answers 5xx.
        kind = ClusterUnreachable if status.startswith("5") else TandemError
        return kind(f"The cluster at {self._address} cannot do it: {why}.")

    def _unreachable(self) -> ClusterUnreachable:
        return ClusterUnreachable(
            f"No Ray cluster answers at {self._address}; name the address of its dashboard by "
            "--address."
        )


class _Unknown(TandemError):  # noqa: N818
    """The cluster knows no such attempt."""


class _Taken(TandemError):  # noqa: N818
    """There is an attempt of this id."""


def _attempt(job: JobDetails) -> Attempt:
    seconds = (job.end_time - job.start_time) / 1000 if job.end_time and job.start_time else None
    return Attempt(job.status.value, job.message or "", job.driver_exit_code, seconds)


def _on_this_machine(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _preferred(address: str) -> Iterator[None]:
    """Let Ray use this address, and the token that is set, and not what else it finds.

    An address in the environment wins over the argument of Ray's client. A token is sent only where
    it was set for this process, or to a cluster on this machine.
    """
    if _on_this_machine(address) or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        from ray._private.authentication import authentication_token_setup as tokens

        tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    before = os.environ.get(_ADDRESS_VARIABLE)
    os.environ[_ADDRESS_VARIABLE] = address
    try:
        yield
    finally:
        del os.environ[_ADDRESS_VARIABLE]
        if before is not None:
            os.environ[_ADDRESS_VARIABLE] = before
