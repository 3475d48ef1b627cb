"""A proxy between the operator and the API server that makes trouble on request and keeps record of every write.

It speaks HTTPS with the API server's own certificate and is the cluster's administrator towards the API server, so its
kubeconfig is a copy of the administrator's with another address.

What happens to a request is decided by `fault`, a function over the request that returns the trouble or None. It is called in
the order in which requests arrive and before any of them is forwarded. Watches that are open are treated apart: they can be
cut, stalled or told that their version is gone.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
import yaml
from aiohttp import web
from tests.api.proxy import Fault, Proxy, abort

from penstock_local.controlplane import ControlPlane
from penstock_operator import credentials

WRITES = ("POST", "PUT", "PATCH", "DELETE")
CREATED = 201
# /api/v1/… or /apis/GROUP/VERSION/…, then namespaces/NAMESPACE/KIND[/NAME[/SUBRESOURCE]]
_PATH = re.compile(r"^/apis?/.+?/namespaces/[^/]+/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$")


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


@dataclass(slots=True, eq=False)
class _Watch:
    request: web.Request
    answer: aiohttp.ClientResponse
    response: web.StreamResponse
    mode: Literal["", "stalled", "half", "over"] = ""


class FaultProxy(Proxy):
    """`kubeconfig`, which it writes, is for the operator."""

    def __init__(self, plane: ControlPlane, kubeconfig: Path) -> None:
        self.plane, self.kubeconfig = plane, kubeconfig
        self.fault: Callable[[Request], Fault | None] = lambda request: None
        self.requests: list[Request] = []
        """All writes since the start, in the order in which they arrived."""
        self._credentials = credentials.load(str(plane.kubeconfig))
        self.upstream = self._credentials.server
        self._watches: set[_Watch] = set()

    def __enter__(self) -> Self:
        super().__enter__()
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        self.kubeconfig.write_text(yaml.safe_dump(config))
        return self

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

    def fail_watches(self, code: int, reason: str, kind: str = "") -> int:
        """End every open watch, or those of this kind (plural), with an event of type ERROR, as the API server does: 410
        Expired when the version that the watch has come to is too old. Returns how many."""
        return self._do(self._fail(_failure(code, reason), kind))

    def _mode(self, mode: Literal["stalled", "half"]) -> None:
        for watch in list(self._watches):
            watch.mode = mode

    async def _cut(self) -> int:
        watches = list(self._watches)
        for watch in watches:
            abort(watch.request)
            watch.answer.close()  # or its handler would wait for the next event
        return len(watches)

    async def _fail(self, status: dict[str, Any], kind: str) -> int:
        watches = [watch for watch in self._watches if _connected(watch.request) and watch.request.path.endswith(kind)]
        for watch in watches:
            watch.mode = "over"
            await watch.response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            watch.answer.close()
        return len(watches)

    # --- the server -----------------------------------------------------------------------------------------------------------

    def _trust(self) -> ssl.SSLContext:
        return self._credentials.ssl_context()

    def _identity(self) -> ssl.SSLContext:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        pki = self.plane.folder / "pki"
        tls.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        return tls

    async def _stop(self) -> None:
        await self._cut()
        await super()._stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        seen = _request(request, body)
        if seen.verb in WRITES:
            self.requests.append(seen)
        fault = self.fault(seen) or Fault()
        if fault.answer:
            return _refusal(*fault.answer, fault.retry_after)

        def answered(status: int, _: bytes) -> None:
            seen.status = status

        stream = partial(self._watch, request) if seen.watch else None
        return await self._pass_on(request, body, fault, answered, stream)

    async def _watch(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
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
                    return abort(request)
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


def _connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()
