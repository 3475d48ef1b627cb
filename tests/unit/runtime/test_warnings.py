"""The kubelet's words about a pod: which of them are taken, and how often they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from penstock_operator.credentials import Credentials
from penstock_operator.kube import Kube
from penstock_operator.runtime.warnings import Warnings
from penstock_operator.trainingjob.observe import PodView

KEY = ("team", "digits")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POD = PodView("digits-worker-0", "p", "u", "worker", 0, 1, "Pending", deleting=False)


@dataclass(slots=True)
class Server:
    """An API server over a real socket, which holds these events."""

    events: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False
    asked: list[str] = field(default_factory=list)
    warnings: Warnings = field(init=False)

    def add(self, reason: str, note: str) -> None:
        version = str(len(self.events) + 1)
        self.events.append({"metadata": {"resourceVersion": version}, "reason": reason, "note": note})

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["fieldSelector"])
        return web.json_response({"items": self.events}, status=500 if self.down else 200)

    async def said(self, after: float = 0.0) -> str:
        await self.warnings.refresh(KEY, POD, NOW + timedelta(seconds=after))
        return self.warnings.about(KEY, POD)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_get("/apis/events.k8s.io/v1/namespaces/team/events", made.handle)
    async with TestServer(app) as listening, Kube(Credentials(str(listening.make_url("")).rstrip("/"))) as kube:
        made.warnings = Warnings(kube)
        yield made


async def test_the_newest_cause_is_told_and_neither_its_summary_nor_what_the_scheduler_said(server: Server) -> None:
    server.add("FailedMount", 'MountVolume.SetUp failed for volume "a" : secret "old" not found')
    server.add("FailedMount", 'MountVolume.SetUp failed for volume "a" : secret "new"\n not found')
    server.add("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[a]")
    server.add("FailedScheduling", "0/12 nodes are available: 12 Insufficient nvidia.com/gpu")
    assert await server.said() == 'MountVolume.SetUp failed for volume "a" : secret "new" not found'
    assert server.asked == ["regarding.uid=p,type=Warning"]


async def test_a_summary_is_better_than_nothing(server: Server) -> None:
    server.add("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[a]")
    assert await server.said() == "Unable to attach or mount volumes: unmounted volumes=[a]"


async def test_it_is_asked_again_after_a_while_and_not_before(server: Server) -> None:
    assert await server.said() == ""
    server.add("FailedAttachVolume", "no such volume")
    assert await server.said(after=29) == ""
    assert await server.said(after=30) == "no such volume"
    assert len(server.asked) == 2


async def test_what_was_known_stays_while_nobody_answers(server: Server) -> None:
    server.add("FailedCreatePodSandBox", "no address left in the subnet")
    await server.said()
    server.down = True
    assert await server.said(after=60) == "no address left in the subnet"
    assert len(server.asked) == 2


async def test_of_another_pod_nothing_is_told(server: Server) -> None:
    server.add("FailedMount", "no")
    await server.said()
    replaced = PodView("digits-worker-0", "q", "u", "worker", 0, 1, "Pending", deleting=False)
    assert server.warnings.about(KEY, replaced) == ""
