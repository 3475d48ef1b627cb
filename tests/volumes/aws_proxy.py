"""A proxy between the operator and the fake AWS that makes trouble on request and keeps record of every call and answer.

The counterpart of tests/api/fault_proxy.py. It speaks plain HTTP, as the fake does: signatures are
passed on and nobody checks them. `fault` is called in the order in which calls arrive, before any of them is forwarded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from tests.api.proxy import Fault, Proxy


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


class AWSProxy(Proxy):
    """`endpoint` is for the operator."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.fault: Callable[[Call], Fault | None] = lambda call: None
        self.calls: list[Call] = []
        """All calls, in the order in which they arrived."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def changes(self) -> list[Call]:
        """Calls that change something."""
        return [call for call in list(self.calls) if call.changes]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        target = request.headers.get("X-Amz-Target", "")
        call = Call(target.rpartition(".")[2], json.loads(body) if target else {})
        self.calls.append(call)
        fault = self.fault(call) or Fault()
        if fault.answer:
            status, code = fault.answer
            return web.json_response({"__type": code, "message": f"the proxy says {code}"}, status=status)

        def answered(status: int, content: bytes) -> None:
            call.status, call.answer = status, json.loads(content) if target else {}

        return await self._pass_on(request, body, fault, answered)
