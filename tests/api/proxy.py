"""A proxy that makes trouble on request: what `FaultProxy` (the API server) and `AWSProxy` (the fake AWS) have in common.

It runs in a thread of its own. What happens to a request is decided by a subclass, before it is passed on, as a `Fault`.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import aiohttp
from aiohttp import web

Result = TypeVar("Result")

_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to one request. Without an argument: nothing."""

    answer: tuple[int, str] | None = None
    """Answered by the proxy with this code and reason; the server behind it is not asked."""
    retry_after: int | None = None
    late: float = 0.0
    """Seconds between the server's answer and the operator's getting it."""
    cut: Literal["", "before", "after", "middle"] = ""
    """The connection is cut: before the server is asked, after it has answered, or in the middle of the answer."""
    then: Callable[[], None] | None = None
    """Called when the server has answered, before the operator can know."""


class Proxy(ABC):
    """Use as a context manager: it listens on `port` of the loopback meanwhile."""

    upstream: str
    """The server's URL, without a path."""
    port: int

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    @abstractmethod
    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Decide, record, and `_pass_on`."""

    def _trust(self) -> ssl.SSLContext | bool:
        """What the server behind is asked with."""
        return True

    def _identity(self) -> ssl.SSLContext | None:
        """What the proxy shows its clients; None for plain HTTP."""
        return None

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        self._connector = aiohttp.TCPConnector(limit=0, ssl=self._trust())
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(connector=self._connector, timeout=timeout, auto_decompress=False)
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._identity()).start()
        self.port = int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._connector.close(abort_ssl=True)
        await self._session.close()
        await asyncio.sleep(0.1)  # aiohttp: transports end in a later round of the loop

    async def _pass_on(
        self,
        request: web.Request,
        body: bytes,
        fault: Fault,
        answered: Callable[[int, bytes], None],
        stream: Callable[[aiohttp.ClientResponse], Coroutine[Any, Any, web.StreamResponse]] | None = None,
    ) -> web.StreamResponse:
        """Ask the server and answer as `fault` says. `answered` is told its status and body; `stream` takes over where
        an answer of 200 has no end."""
        if fault.cut == "before":
            return abort(request)
        headers = _end_to_end(request.headers)
        url = self.upstream + request.raw_path
        try:
            async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
                if stream and answer.status == 200:
                    return await stream(answer)
                content = await answer.read()
        except (aiohttp.ClientError, ConnectionError):
            return abort(request)
        answered(answer.status, content)
        if fault.then:
            fault.then()
        await asyncio.sleep(fault.late)
        if fault.cut == "after":
            return abort(request)
        kept = _end_to_end(answer.headers)
        if fault.cut == "middle":
            half = web.StreamResponse(status=answer.status, headers={**kept, "Content-Length": str(len(content))})
            await half.prepare(request)
            await half.write(content[: len(content) // 2])
            return abort(request)
        return web.Response(status=answer.status, body=content, headers=kept)


def abort(request: web.Request) -> web.Response:
    """Cut the connection; what is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def _end_to_end(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP}
