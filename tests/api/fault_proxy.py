"""A proxy between the operator and the API server that makes trouble on request and keeps record of every write.

It speaks HTTPS with the API server's own certificate and is the cluster's administrator towards the API server, so its
kubeconfig is a copy of the administrator's with another address. It runs in a thread of its own.

What happens to a request is decided by `fault`, a function over the request that returns the trouble or None. It is called in
the order in which requests arrive and before any of them is forwarded. Watches that are open are treated apart: they can be
cut, stalled or told that their version is gone.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiohttp
import yaml
from aiohttp import web

from penstock_local.controlplane import ControlPlane
from penstock_operator import credentials

Result = TypeVar("Result")

WRITES = ("POST", "PUT", "PATCH", "DELETE")
CREATED = 201
# /api/v1/… or /apis/GROUP/VERSION/…, then namespaces/NAMESPACE/KIND[/NAME[/SUBRESOURCE]]
_PATH = re.compile(r"^/apis?/.+?/namespaces/[^/]+/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$")
_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(slots=True)
class Request:
    """One request of the operator."""

    verb: str
    kind: str
    """Plural, as in the path; with a subresource `pods/status`. Empty for what is not in a namespace."""
    name: str
    watch: bool
    status: int = 0
    """What the API server answered; 0 before that, and for ever when it was never asked."""

    @property
    def write(self) -> bool:
        """A write that jobs hang on: neither the Lease nor an Event."""
        return self.verb in WRITES and self.kind not in ("leases", "events")

    def __str__(self) -> str:
        return f"{self.verb} {self.kind}/{self.name}: {self.status}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to one request. Without an argument: nothing."""

    answer: tuple[int, str] | None = None
    """Answered by the proxy with this code and reason; the API server is not asked."""
    retry_after: int | None = None
    late: float = 0.0
    """Seconds between the API server's answer and the operator's getting it."""
    cut: Literal["", "before", "after", "middle"] = ""
    """The connection is cut: before the API server is asked, after it has answered, or in the middle of the answer."""
    then: Callable[[], None] | None = None
    """Called when the API server has answered, before the operator can know."""


@dataclass(slots=True, eq=False)
class _Watch:
    request: web.Request
    answer: aiohttp.ClientResponse
    response: web.StreamResponse
    mode: Literal["", "stalled", "half", "over"] = ""


@dataclass(slots=True)
class FaultProxy:
    """Use as a context manager; `kubeconfig` is for the operator."""

    plane: ControlPlane
    kubeconfig: Path
    """Where to write the kubeconfig."""
    fault: Callable[[Request], Fault | None] = lambda request: None
    requests: list[Request] = field(default_factory=list)
    """All writes since the start, in the order in which they arrived."""
    _watches: set[_Watch] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None
    _server: str = ""

    def __enter__(self) -> FaultProxy:
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        port = self._do(self._start())
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        self.kubeconfig.write_text(yaml.safe_dump(config))
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(timeout=10)
        self._loop.close()

    # --- record ---------------------------------------------------------------------------------------------------------------

    def writes(self) -> list[Request]:
        """Writes that jobs hang on."""
        return [request for request in list(self.requests) if request.write]

    def created(self) -> list[str]:
        """Kind and name of every object that the operator ever made, a second one of the same name too."""
        return [f"{each.kind}/{each.name}" for each in self.writes() if each.verb == "POST" and each.status == CREATED]

    # --- watches --------------------------------------------------------------------------------------------------------------

    def watching(self) -> int:
        """Open watches that still pass events on."""
        return sum(watch.mode in ("", "half") and _connected(watch.request) for watch in list(self._watches))

    def cut_watches(self) -> int:
        """Cut every open watch now. Returns how many."""
        return self._do(self._cut())

    def cut_watches_in_an_event(self) -> None:
        """Cut every open watch in the middle of its next event."""
        self._mode("half")

    def stall_watches(self) -> None:
        """Open watches stay open and tell nothing more; watches that are opened later are not stalled."""
        self._mode("stalled")

    def fail_watches(self, code: int, reason: str) -> int:
        """End every open watch with an event of type ERROR, as the API server does: 410 Expired when the version that the watch
        has come to is too old. Returns how many."""
        return self._do(self._fail(_failure(code, reason)))

    def _mode(self, mode: Literal["stalled", "half"]) -> None:
        for watch in list(self._watches):
            watch.mode = mode

    async def _cut(self) -> int:
        watches = list(self._watches)
        for watch in watches:
            _abort(watch.request)
            watch.answer.close()  # or its handler would wait for the next event
        return len(watches)

    async def _fail(self, status: dict[str, Any]) -> int:
        watches = [watch for watch in self._watches if _connected(watch.request)]
        for watch in watches:
            watch.mode = "over"
            await watch.response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            watch.answer.close()
        return len(watches)

    # --- the server -----------------------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> int:
        identity = credentials.load(str(self.plane.kubeconfig))
        self._server = identity.server
        connector = aiohttp.TCPConnector(limit=0, ssl=identity.ssl_context())
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0)
        await self._runner.setup()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        pki = self.plane.folder / "pki"
        tls.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        await self._cut()
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        assert isinstance(self._session.connector, aiohttp.TCPConnector)
        await self._session.connector.close(abort_ssl=True)
        await self._session.close()
        await asyncio.sleep(0.1)  # aiohttp: transports end in a later round of the loop

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        seen = _request(request, body)
        if seen.verb in WRITES:
            self.requests.append(seen)
        fault = self.fault(seen) or Fault()
        if fault.answer:
            return _refusal(*fault.answer, fault.retry_after)
        if fault.cut == "before":
            return _abort(request)
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        try:
            async with self._session.request(
                request.method, self._server + request.raw_path, data=body or None, headers=headers
            ) as answer:
                seen.status = answer.status
                if seen.watch and answer.status == 200:
                    return await self._pass_on(request, answer)
                content = await answer.read()
        except (aiohttp.ClientError, ConnectionError):
            return _abort(request)
        if fault.then:
            fault.then()
        await asyncio.sleep(fault.late)
        if fault.cut == "after":
            return _abort(request)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        if fault.cut == "middle":
            return await _half(request, answer.status, kept, content)
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
        await response.prepare(request)
        watch = _Watch(request, answer, response)
        self._watches.add(watch)
        try:
            async for chunk in answer.content.iter_any():
                if not _connected(request):
                    break
                if watch.mode == "half":
                    await response.write(chunk[: len(chunk) // 2])
                    return _abort(request)
                if not watch.mode:
                    await response.write(chunk)
        except aiohttp.ClientError:
            if watch.mode != "over":
                raise
        finally:
            self._watches.discard(watch)
        return response


def _request(request: web.Request, body: bytes) -> Request:
    found = _PATH.match(request.path)
    kind, name, sub = (found["kind"], found["name"] or "", found["sub"]) if found else ("", "", "")
    if request.method == "POST" and not name:
        name = json.loads(body)["metadata"]["name"]
    return Request(request.method, f"{kind}/{sub}" if sub else kind, name, request.query.get("watch") == "true")


def _refusal(code: int, reason: str, retry_after: int | None) -> web.Response:
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return web.json_response(_failure(code, reason), status=code, headers=headers)


def _failure(code: int, reason: str) -> dict[str, Any]:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return {**status, "message": f"the proxy says {reason}"}


async def _half(request: web.Request, status: int, headers: dict[str, str], content: bytes) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    return _abort(request)


def _connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _abort(request: web.Request) -> web.Response:
    """Cut the connection; what is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)
