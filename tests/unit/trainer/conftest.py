"""The operator's real progress endpoint over loopback, for tests that report to it from another thread or process."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from penstock_operator.runtime.progress import ProgressStore, StatusProgress, routes
from penstock_operator.trainingjob.children.keys import progress_token as token

KEY = b"k" * 32
JOB = ("team-a", "digits", "uid-1")


class Operator:
    """The endpoint on a port of its own, in a thread of its own; can be stopped, slowed and deposed as leader."""

    def __init__(self) -> None:
        self.store = ProgressStore()
        self.token = token(KEY, *JOB)
        self.leader = True
        self.delay = 0.0
        self.port = 0
        self.steps: list[int] = []
        self.answers: list[int] = []
        self.client_ports: set[int] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/progress/{'/'.join(JOB)}"

    @property
    def latest(self) -> StatusProgress | None:
        return self.store.latest(JOB[2])

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)

    def eventually(self, condition: Callable[[], object], log: str = "", seconds: float = 15.0) -> None:
        """Wait until the condition holds; fail with what arrived so far."""
        deadline = time.monotonic() + seconds
        while not condition():
            state = f"steps {self.steps[-9:]}, answers {self.answers[-9:]}, log {log!r}"
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {state}"
            time.sleep(0.005)

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._observe()])
        # A clock that leaps: these tests report faster than once a second, and the rate limit has its own tests.
        ticks = itertools.count(0, 1000)
        app.add_routes(
            routes(self.store, lambda: KEY, self._reported, lambda: self.leader, monotonic=lambda: float(next(ticks)))
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _reported(self, namespace: str, name: str) -> None:
        assert self.latest is not None
        self.steps.append(self.latest["step"])

    def _observe(self) -> Middleware:
        @web.middleware
        async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
            assert request.transport is not None
            self.client_ports.add(request.transport.get_extra_info("peername")[1])
            await asyncio.sleep(self.delay)
            response = await handler(request)
            self.answers.append(response.status)
            return response

        return observe


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    started = Operator()
    started.start()
    secret = tmp_path / "progress-token"
    secret.write_text(started.token + "\n")
    for name in [name for name in os.environ if name.endswith(("_RANK", "_SIZE")) or name == "RANK"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_PROGRESS_URL", started.url)
    monkeypatch.setenv("PENSTOCK_PROGRESS_TOKEN_FILE", str(secret))
    yield started
    started.end()


@pytest.fixture
def secret(operator: Operator) -> Path:
    return Path(os.environ["PENSTOCK_PROGRESS_TOKEN_FILE"])
