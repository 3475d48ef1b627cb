"""How a plan is carried out where the API server says no: what is tried again, what is waited for, what is remembered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from penstock_operator import names
from penstock_operator.credentials import Credentials
from penstock_operator.kube import ApiError, Kube
from penstock_operator.runtime.act import Actor
from penstock_operator.runtime.lister import Lister
from penstock_operator.runtime.recorder import Recorder
from penstock_operator.trainingjob.observe import PodView
from penstock_operator.trainingjob.verdict import Plan, Removal

KEY = ("team", "digits")
JOB = {"metadata": {"namespace": "team", "name": "digits", "uid": "u", "resourceVersion": "7"}, "spec": {}, "status": {}}

Answer = tuple[int, str]
"""Status code and reason."""


@dataclass(slots=True)
class Server:
    """An API server over a real socket that answers as the test says."""

    lister: Lister = field(default_factory=Lister)
    answer: Callable[[str, str, dict[str, Any]], Answer] = lambda verb, name, body: (200, "")
    late: dict[str, float] = field(default_factory=dict)
    """Seconds that an answer takes, by name of the object."""
    answered: list[str] = field(default_factory=list)
    patches: list[dict[str, Any]] = field(default_factory=list)
    actor: Actor = field(init=False)

    async def handle(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text())
        parts = request.path.split("/")
        name = parts[-2] if parts[-1] == "status" else parts[-1]
        await asyncio.sleep(self.late.get(name, 0.0))
        status, reason = self.answer(request.method, name, body)
        self.answered.append(f"{request.method} {name}")
        if request.method == "PATCH":
            self.patches.append(body["status"])
        known = {"metadata": {"uid": "u", "resourceVersion": "8"}}
        return web.json_response(known if status < 400 else {"reason": reason, "message": "no"}, status=status)

    async def act(self, plan: Plan, job: dict[str, Any] = JOB) -> None:
        self.lister.jobs.see(job)
        await self.actor.act(KEY, job, plan, datetime.now(UTC))

    def known(self) -> dict[str, PodView]:
        return {pod.name: pod for pod in self.lister.pods(KEY)}

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = (self.lister.job(KEY) or {})["status"]
        return status


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    async with TestServer(app) as listening, Kube(Credentials(str(listening.make_url("")).rstrip("/"))) as kube:
        made.actor = Actor(kube, made.lister, Recorder(kube, "test", lambda: False), timedelta(seconds=30))
        yield made


def pod(server: Server, name: str, grace: int = 30) -> Removal:
    """The removal of a pod that the watch has shown."""
    labels = {names.LABEL_JOB: "digits", names.LABEL_ROLE: "worker"}
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": "5", "labels": labels}
    server.lister.see_pod({"metadata": metadata, "spec": {"terminationGracePeriodSeconds": grace}})
    return Removal(server.known()[name])


async def test_a_deletion_that_fails_lets_go_of_the_key_only_when_the_others_are_answered(server: Server) -> None:
    going = tuple(pod(server, name) for name in ("w0", "w1", "w2"))
    server.answer = lambda verb, name, body: (500, "InternalError") if name == "w0" else (200, "")
    server.late = {"w1": 0.3, "w2": 0.1}
    with pytest.raises(ApiError, match="500"):
        await server.act(Plan(remove=going))
    assert server.answered == ["DELETE w0", "DELETE w2", "DELETE w1"]
    assert {name: one.deleting for name, one in server.known().items()} == {"w0": False, "w1": True, "w2": True}


async def test_a_pod_that_was_told_to_go_has_its_own_grace_and_one_that_is_gone_has_none(server: Server) -> None:
    going = (pod(server, "w0", grace=120), pod(server, "w1", grace=120))
    server.answer = lambda verb, name, body: (404, "NotFound") if name == "w1" else (200, "")
    before = datetime.now(UTC)
    await server.act(Plan(remove=going))
    left = {name: one.gone_at - before for name, one in server.known().items() if one.gone_at is not None}
    assert timedelta(seconds=120) <= left["w0"] < timedelta(seconds=130)
    assert timedelta(0) <= left["w1"] < timedelta(seconds=10)


def refuses(*fields: str) -> Callable[[str, str, dict[str, Any]], Answer]:
    """A schema that does not take these fields."""
    return lambda verb, name, body: (422, "Invalid") if set(fields) & set(body.get("status", ())) else (200, "")


@pytest.mark.parametrize("refused", ["failure", "progress"])
async def test_what_a_program_says_keeps_no_status_from_being_written(
    server: Server, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = refuses(refused)
    before = JOB | {"status": {"phase": "Running", "progress": {"step": 1}}}
    ended = {"phase": "Failed", "failure": {"rank": 10**11}, "progress": {"step": 2}}
    await server.act(Plan(status=ended, remove=(pod(server, "w0"),)), before)
    assert server.patches[1:] == [{"phase": "Failed"}]
    assert server.status() == {"phase": "Failed", "progress": {"step": 1}, "failure": None}
    assert server.answered[-1] == "DELETE w0"
    assert "the status goes without failure and progress: 422" in caplog.text


async def test_a_report_that_is_refused_alone_is_let_go(server: Server) -> None:
    server.answer = refuses("progress")
    await server.act(Plan(status={"phase": "Running", "progress": {"step": 2}}), JOB | {"status": {"phase": "Running"}})
    assert server.answered == ["PATCH digits"]


@pytest.mark.parametrize(("status", "reason"), [(422, "Invalid"), (409, "Conflict"), (500, "InternalError")])
async def test_a_status_that_is_refused_for_something_else_is_an_error_and_nothing_is_deleted(
    server: Server, status: int, reason: str
) -> None:
    told = {"progress": {"step": 1}, "attempt": 1}
    server.answer = lambda verb, name, body: (status, reason)
    with pytest.raises(ApiError, match=str(status)):
        await server.act(Plan(status=told | {"phase": "Failed"}, remove=(pod(server, "w0"),)), JOB | {"status": told})
    assert server.answered == ["PATCH digits"]
