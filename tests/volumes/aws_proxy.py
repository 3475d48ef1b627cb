"""A proxy between the operator and the fake AWS that makes trouble on request and keeps record of every call and answer.

The counterpart of tests/api/fault_proxy.py, and with the same `Fault`. It speaks plain HTTP, as the fake does: signatures are
passed on and nobody checks them. `fault` is called in the order in which calls arrive, before any of them is forwarded.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from tests.api.fault_proxy import Fault

_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(slots=True)
class Call:
    """One call of the operator."""

    action: str
    """As the API names it; empty for services that do not speak JSON (EC2)."""
    parameters: dict[str, Any]
    status: int = 0
    """What AWS answered; 0 before that, and for ever when it was never asked."""
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        return self.action.startswith(("Create", "Update", "Delete"))

    @property
    def what(self) -> str:
        """Action and what it is about: a repeated call is the same. (boto3 makes up a token where we give none.)"""
        keys = ("ClientRequestToken",) if self.action.startswith("Create") else ("AssociationId", "FileSystemId")
        return f"{self.action} {next((self.parameters[key] for key in keys if key in self.parameters), '')}"


@dataclass(slots=True)
class AWSProxy:
    """Use as a context manager; `endpoint` is for the operator."""

    upstream: str
    """Endpoint of the fake AWS."""
    fault: Callable[[Call], Fault | None] = lambda call: None
    endpoint: str = ""
    calls: list[Call] = field(default_factory=list)
    """All calls, in the order in which they arrived."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None

    def __enter__(self) -> AWSProxy:
        self._thread = threading.Thread(target=self._loop.run_forever, name="aws-proxy", daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._do(self._start())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(timeout=10)
        self._loop.close()

    def changes(self) -> list[Call]:
        """Calls that change something."""
        return [call for call in list(self.calls) if call.changes]

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> int:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        target = request.headers.get("X-Amz-Target", "")
        call = Call(target.rpartition(".")[2], json.loads(body) if target else {})
        self.calls.append(call)
        fault = self.fault(call) or Fault()
        if fault.answer:
            status, code = fault.answer
            return web.json_response({"__type": code, "message": f"the proxy says {code}"}, status=status)
        if fault.cut == "before":
            return _abort(request)
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = self.upstream + request.raw_path
        try:
            async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, ConnectionError):
            return _abort(request)
        call.status, call.answer = answer.status, json.loads(content) if target else {}
        if fault.then:
            fault.then()
        if fault.cut == "after":
            return _abort(request)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        if fault.cut == "middle":
            half = web.StreamResponse(status=answer.status, headers={**kept, "Content-Length": str(len(content))})
            await half.prepare(request)
            await half.write(content[: len(content) // 2])
            return _abort(request)
        return web.Response(status=answer.status, body=content, headers=kept)


def _abort(request: web.Request) -> web.Response:
    """Cut the connection; what is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)
