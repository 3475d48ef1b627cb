"""The model server as a process on loopback, and a small HTTP client that returns every answer, errors too.

The process is a fork (tests/forked.py); in its image it runs in tests/e2e.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.forked import Forked, preload

from penstock_serving import __main__

# What torch.export.load imports at its first call is 1.6 s of CPU (sympy, networkx), for each server again. Found by comparing
# sys.modules before and after it: these two bring nearly all that is new.
LOADING = ("torch._export.serde.serialize", "torch._functorch.aot_autograd")
preload("penstock_serving.app", "torch.export", *LOADING, "tests.serving.server")


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


def until(condition: Callable[[], bool], describe: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds:g} s: {describe()}"
        time.sleep(0.02)


class Server:
    """Started at once; `port` is known when it listens."""

    def __init__(self, folder: Path, uri: str, **settings: str) -> None:
        self._log = folder / "server.log"
        environment = {"MODEL_URI": uri, "MODEL_NAME": "m", "PENSTOCK_LISTEN_HOST": "127.0.0.1", "PENSTOCK_LISTEN_PORT": "0"}
        environment |= {"PENSTOCK_DRAIN_SECONDS": "0", "PENSTOCK_THREADS": "1", "TMPDIR": str(folder)}
        self._process = Forked(
            __main__.main, ["penstock_serving", "serve"], {**os.environ, **environment, **settings}, self._log
        )
        self.port = 0

    def listens(self) -> Server:
        def found() -> bool:
            assert not self._process.ended(), self.log()
            if match := re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log()):
                self.port = int(match[1])
            return self.port > 0

        until(found, self.log)
        return self

    def ready(self) -> Server:
        self.listens()

        def is_ready() -> bool:
            assert not self._process.ended(), self.log()
            return self.get("/v2/health/ready").status == 200

        until(is_ready, self.log)
        return self

    def fails(self) -> str:
        """Waits until it has ended by itself with code 1; returns what it said."""
        assert self._process.wait(60) == 1, self.log()
        return self.log()

    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """A body that is not bytes is sent as JSON; `Content_Type="..."` becomes a header."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data, {name.replace("_", "-"): value for name, value in headers.items()})

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """The value of a series, 0 where there is none."""
        for line in self.get("/metrics").body.decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series == name:
                return float(value)
        return 0.0

    def terminate(self) -> None:
        self._process.send(signal.SIGTERM)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; returns the exit code. SIGKILL when it does not end."""
        self.terminate()
        try:
            return self._process.wait(seconds)
        except TimeoutError:
            self._process.send(signal.SIGKILL)
            self._process.wait(10)
            raise
