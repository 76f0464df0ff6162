"""A dashboard that serves Ray's job API to a real client: jobs are functions, and answers may fail.

What a real one does, in `tests/test_submit_cluster.py`, is done here in milliseconds and on demand.
"""

import asyncio
import io
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field

import ray
from aiohttp import web


@dataclass
class FakeJob:
    """A job whose function says what it writes and how it ends."""

    request: dict
    status: str = "PENDING"
    message: str = "Job has not started yet."
    code: int | None = None
    log: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)

    def write(self, text):
        self.status = "RUNNING"
        self.log += text

    def end(self, status="SUCCEEDED", code=0, message=""):
        self.code, self.message, self.status = code, message, status

    @property
    def ended(self):
        return self.status not in ("PENDING", "RUNNING")


def succeeds(job):
    job.write("one\ntwo\nthree\n")
    job.end()


class FakeDashboard:
    """What it was asked, what was uploaded, and the jobs by id.

    Attributes:
        run: what each job does, in a thread of its own.
        token: what requests must bear; None for no authentication.
        rival: whether another starts a job as soon as it was looked for in vain.
        broken: so many of the next requests are answered with 503.
        lost: the answers to so many of the next submissions are.
        cuts: after so many characters the next connections that read a log break, one each; None
            for one that stays silent for ever.
    """

    def __init__(self, run=succeeds, token=None, rival=False):
        self.run, self.token, self.rival = run, token, rival
        self.broken, self.lost, self.cuts = 0, 0, []
        self.asked, self.uploads, self.jobs = [], {}, {}

    def uploaded(self):
        """The files of the only upload, by name."""
        (package,) = self.uploads.values()
        with zipfile.ZipFile(io.BytesIO(package)) as opened:
            return {name: opened.read(name) for name in opened.namelist()}

    def entry_points(self):
        return [job.request["entrypoint"] for job in self.jobs.values()]

    def start(self, name, request):
        job = self.jobs[name] = FakeJob(request)
        threading.Thread(target=self.run, args=(job,), daemon=True).start()

    @web.middleware
    async def _door(self, request, handler):
        self.asked.append(f"{request.method} {request.path}")
        if self.token is not None and request.headers.get("Authorization") != self.token:
            return web.Response(status=403 if "Authorization" in request.headers else 401)
        if self.broken:
            self.broken -= 1
            return web.Response(status=503, text="Service Unavailable")
        return await handler(request)

    async def _version(self, _):
        return web.json_response({"version": "4", "ray_version": ray.__version__})

    async def _package(self, request):
        return web.Response(status=200 if request.match_info["name"] in self.uploads else 404)

    async def _upload(self, request):
        self.uploads[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _submit(self, request):
        asked = await request.json()
        name = asked["submission_id"]
        if name in self.jobs:
            return web.Response(status=500, text=f"Job with submission_id {name} already exists.")
        self.start(name, asked)
        if self.lost:
            self.lost -= 1
            request.transport.abort()
        return web.json_response({"job_id": name, "submission_id": name})

    async def _job(self, request):
        name = request.match_info["name"]
        job = self.jobs.get(name)
        if job is None:
            if self.rival:
                self.start(name, {})
            return web.Response(status=404, text=f"Job {name} does not exist")
        return web.json_response(
            {
                "type": "SUBMISSION",
                "submission_id": name,
                "status": job.status,
                "entrypoint": "",
                "message": job.message,
                "start_time": 1_000,
                "end_time": 3_500 if job.ended else None,
                "driver_exit_code": job.code,
            }
        )

    async def _stop(self, request):
        self.jobs[request.match_info["name"]].stopped.set()
        return web.json_response({"stopped": True})

    async def _logs(self, request):
        return web.json_response({"logs": self.jobs[request.match_info["name"]].log})

    async def _tail(self, request):
        job = self.jobs[request.match_info["name"]]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else 10**9
        sent = 0
        while cut is None or sent < len(job.log) or not job.ended:
            text = "" if cut is None else job.log[sent : min(cut, sent + 10)]
            if text:
                await socket.send_str(text)
                sent += len(text)
            if sent == cut:
                request.transport.abort()
                break
            await asyncio.sleep(0.002)
        return socket

    def app(self):
        app = web.Application(middlewares=[self._door], client_max_size=2**30)
        app.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/packages/{protocol}/{name}", self._package),
                web.put("/api/packages/{protocol}/{name}", self._upload),
                web.post("/api/jobs/", self._submit),
                web.get("/api/jobs/{name}", self._job),
                web.post("/api/jobs/{name}/stop", self._stop),
                web.get("/api/jobs/{name}/logs", self._logs),
                web.get("/api/jobs/{name}/logs/tail", self._tail),
            ]
        )
        return app


@contextmanager
def served(dashboard):
    """Serve a dashboard from a thread; its address."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(dashboard.app(), access_log=None, shutdown_timeout=0.1)

    async def begin():
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner.addresses[0][1]

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
