"""The night: a run of each RayJob template, one after the other, each watched to its end.

    python nightly.py TEMPLATE…

A template is a suspended RayJob. Its run is a copy that is not suspended, named for this
Kubernetes job and owned by it: a pod that takes the place of one that was evicted finds the run and
goes on watching it, and what deletes the job (its history, or a person) deletes the run.

The next template is run after one that ended with 0, and after 3, which left `live` where it stood.
It ends with the first exit code that is not 0: that of Tandem where a run had one, 1 where a run
failed without, 2 where KubeRay refused it, and 75 if Kubernetes could not be reached, which is
worth another pod. Nothing but the standard library is needed.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_LOOKS = 10.0
UNREACHABLE_SECONDS = 600.0
NOT_PUBLISHED = 3
UNREACHABLE = 75
LONGEST_NAME = 47  # of a RayJob: KubeRay adds to it
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PASSING = {429, 500, 502, 503, 504}
_EXIT_CODE = re.compile(r"failed with exit code (\d+)")


class NightError(Exception):
    """Why the night ends here, and its exit code."""

    def __init__(self, sentence: str, code: int = 1) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Owner:
    """The Kubernetes job that the runs belong to."""

    name: str
    uid: str


@dataclass(frozen=True)
class Kubernetes:
    """The RayJobs of a namespace, through Kubernetes' API.

    Attributes:
        connect: opens a connection; one is used for one request.
        token: reads the service account's token, which is renewed while a night goes on.
        patience: for so many seconds a request is tried again.
        pause: seconds between looks at a run, and between tries.
    """

    connect: Callable[[], http.client.HTTPConnection]
    token: Callable[[], str]
    namespace: str
    patience: float = UNREACHABLE_SECONDS
    pause: float = SECONDS_BETWEEN_LOOKS

    def read(self, name: str) -> dict[str, Any]:
        """A RayJob.

        Raises:
            NightError: there is none of this name.
        """
        status, found = self._ask("GET", f"/{name}")
        if status == http.client.NOT_FOUND:
            raise NightError(f"There is no RayJob {name} in the namespace {self.namespace}.")
        return self._accepted(status, found)

    def create(self, run: dict[str, Any]) -> bool:
        """Create a RayJob; whether there was none of its name."""
        status, found = self._ask("POST", "", run)
        if status == http.client.CONFLICT:
            return False
        self._accepted(status, found)
        return True

    def _accepted(self, status: int, found: dict[str, Any]) -> dict[str, Any]:
        if status >= http.client.BAD_REQUEST:
            raise NightError(f"Kubernetes answered {status}: {found.get('message', 'no reason')}.")
        return found

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Ask until there is an answer, for as long as `patience` says."""
        until = time.monotonic() + self.patience
        while True:
            try:
                status, found = self._once(method, path, body)
                if status not in _PASSING:
                    return status, found
                reason = f"it answers {status}"
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                reason = f"{type(error).__name__}: {error}"
            if time.monotonic() >= until:
                raise NightError(f"Kubernetes cannot be reached: {reason}.", UNREACHABLE)
            time.sleep(self.pause)

    def _once(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        connection = self.connect()
        try:
            connection.request(
                method,
                f"/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs{path}",
                body=None if body is None else json.dumps(body),
                headers={
                    "Authorization": f"Bearer {self.token()}",
                    "Content-Type": "application/json",
                },
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def night(kubernetes: Kubernetes, templates: list[str], owner: Owner) -> int:
    """Run the templates in order; the exit code."""
    first = 0
    for template in templates:
        code = _watched(kubernetes, _started(kubernetes, template, owner))
        first = first or code
        if code not in (0, NOT_PUBLISHED):
            break
    return first


def run_of(template: dict[str, Any], owner: Owner) -> dict[str, Any]:
    """The RayJob that a template is for, under tonight's name.

    Raises:
        NightError: the name is too long.
    """
    about = template["metadata"]
    name = f"{about['name']}-{owner.name}"
    if len(name) > LONGEST_NAME:
        raise NightError(f"{name} is too long; choose a shorter name for the job.", 2)
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": owner.name, "uid": owner.uid}
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": {
            "name": name,
            "labels": about.get("labels", {}),
            "ownerReferences": [reference],
        },
        "spec": template["spec"] | {"suspend": False},
    }


def exit_code_of(status: dict[str, Any]) -> int | None:
    """How a run ended, from its status; None while it goes on."""
    deployment, job = status.get("jobDeploymentStatus"), status.get("jobStatus")
    if deployment == "ValidationFailed":
        return 2
    if deployment == "Complete":
        return 0 if job == "SUCCEEDED" else 1
    if deployment == "Failed":
        # Ray says it in the message, and in no field that KubeRay keeps.
        told = _EXIT_CODE.search(status.get("message", ""))
        return int(told[1]) if told and 0 < int(told[1]) <= 4 else 1
    return None


def _started(kubernetes: Kubernetes, template: str, owner: Owner) -> str:
    run = run_of(kubernetes.read(template), owner)
    name: str = run["metadata"]["name"]
    if kubernetes.create(run):
        say(f"{name}: created.")
        return name
    owners = kubernetes.read(name)["metadata"].get("ownerReferences", [])
    if owner.uid not in {found.get("uid") for found in owners}:
        raise NightError(f"There is a RayJob {name} already, of another job; delete it first.")
    say(f"{name}: goes on.")
    return name


def _watched(kubernetes: Kubernetes, name: str) -> int:
    """Look at a run until it has ended, and tell what changes; its exit code."""
    before = None
    while True:
        status = kubernetes.read(name).get("status", {})
        now = " ".join(filter(None, (status.get("jobDeploymentStatus"), status.get("jobStatus"))))
        if now and now != before:
            say(f"{name}: {now}")
            before = now
        code = exit_code_of(status)
        if code is not None:
            reason = " ".join(filter(None, (status.get("reason"), status.get("message"))))
            say(f"{name}: ended with {code}. {reason if code else ''}".rstrip())
            return code
        time.sleep(kubernetes.pause)


def say(line: str) -> None:
    """Tell one thing, at once."""
    print(line, flush=True)  # noqa: T201


def in_cluster() -> Kubernetes:
    """Kubernetes as a pod reaches it."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    context = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    return Kubernetes(
        lambda: http.client.HTTPSConnection(host, int(port), timeout=30, context=context),
        lambda: (_ACCOUNT / "token").read_text(encoding="utf-8").strip(),
        os.environ["NAMESPACE"],
    )


def main() -> None:
    """Run the templates that the command line names."""
    owner = Owner(os.environ["JOB_NAME"], os.environ["JOB_UID"])
    try:
        sys.exit(night(in_cluster(), sys.argv[1:], owner))
    except NightError as error:
        print(f"nightly: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.code)


if __name__ == "__main__":
    main()
