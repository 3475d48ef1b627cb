"""The operator's progress endpoint over a real socket: who may report, what is refused and why, what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from penstock_operator.runtime.progress import (
    BURST,
    MAX_BODY_BYTES,
    ProgressStore,
    Report,
    routes,
    status_progress,
)
from penstock_operator.trainingjob.children.keys import progress_token as token

KEY = b"k" * 32
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
JOB = ("team-a", "digits", "5f0c4e9e-8f5c-4b6e-9d57-0f6f0a0f7c11")


@dataclass
class Endpoint:
    session: aiohttp.ClientSession
    base: str
    store: ProgressStore
    leader: bool = True
    now: float = 1_000.0
    reported: list[tuple[str, str]] = field(default_factory=list)

    async def post(
        self, body: object = None, *, job: tuple[str, str, str] = JOB, bearer: str | None = None, raw: bytes | None = None
    ) -> tuple[int, str]:
        answer = await self.session.post(
            f"{self.base}/v1/progress/{'/'.join(job)}",
            data=raw if raw is not None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token(KEY, *job) if bearer is None else bearer}"},
        )
        text = await answer.text()
        return answer.status, json.loads(text)["error"] if text else ""


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with aiohttp.ClientSession() as session:
        made = Endpoint(session, "", ProgressStore())
        app = web.Application()
        app.add_routes(
            routes(
                made.store,
                lambda: KEY,
                lambda namespace, name: made.reported.append((namespace, name)),
                lambda: made.leader,
                clock=lambda: 1_767_225_600.0,
                monotonic=lambda: made.now,
            )
        )
        async with TestServer(app) as server:
            made.base = str(server.make_url("")).rstrip("/")
            yield made


async def test_a_full_report_becomes_status_progress_and_wakes_its_job(endpoint: Endpoint) -> None:
    body = {
        "step": 30,
        "totalSteps": 120,
        "epoch": 1,
        "totalEpochs": 4,
        "samplesPerSecond": 812.5,
        "etaSeconds": 9,
        "metrics": {"loss": 0.12, "val/top-1": 1},
    }
    assert await endpoint.post(body) == (204, "")
    assert endpoint.store.latest(JOB[2]) == {
        "step": 30,
        "totalSteps": 120,
        "epoch": 1,
        "totalEpochs": 4,
        "percent": 25,
        "samplesPerSecond": 812.5,
        "etaSeconds": 9,
        "metrics": {"loss": 0.12, "val/top-1": 1.0},
        "updatedAt": "2026-01-01T00:00:00Z",
    }
    assert endpoint.reported == [("team-a", "digits")]


async def test_the_newest_report_wins_and_forget_removes_it(endpoint: Endpoint) -> None:
    await endpoint.post({"step": 1})
    await endpoint.post({"step": 2})
    latest = endpoint.store.latest(JOB[2])
    assert latest is not None
    assert latest["step"] == 2
    endpoint.store.forget(JOB[2])
    assert endpoint.store.latest(JOB[2]) is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "step: Field required"),
        ({"step": -1}, "step: Input should be greater than or equal to 0"),
        ({"step": 1.5}, "step: Input should be a valid integer"),
        ({"step": "7"}, "step: Input should be a valid integer"),
        ({"step": True}, "step: Input should be a valid integer"),
        ({"step": 2**63}, "step: Input should be less than or equal to 9223372036854775807"),
        ({"step": 1, "totalSteps": -5}, "totalSteps: "),
        ({"step": 1, "total_steps": 5}, "total_steps: Extra inputs are not permitted"),
        ({"step": 1, "loss": 0.1}, "loss: Extra inputs are not permitted"),
        ({"step": 1, "samplesPerSecond": float("nan")}, "samplesPerSecond: Input should be"),
        ({"step": 1, "samplesPerSecond": -1.0}, "samplesPerSecond: Input should be greater than or equal to 0"),
        ({"step": 1, "metrics": {"loss": float("nan")}}, "metrics.loss: Input should be a finite number"),
        ({"step": 1, "metrics": {"loss": float("inf")}}, "metrics.loss: Input should be a finite number"),
        ({"step": 1, "metrics": {"loss": "low"}}, "metrics.loss: Input should be a valid number"),
        ({"step": 1, "metrics": {"loss": None}}, "metrics.loss: Input should be a valid number"),
        ({"step": 1, "metrics": {"top 1": 0.5}}, "metrics.top 1: String should match pattern"),
        ({"step": 1, "metrics": {"": 0.5}}, "metrics"),
        ({"step": 1, "metrics": {"x" * 64: 0.5}}, "metrics.xxx"),
        ({"step": 1, "metrics": {"loss\n": 0.5}}, "metrics.loss"),
        ({"step": 1, "metrics": {f"m{i}": 0.5 for i in range(33)}}, "metrics: Dictionary should have at most 32 items"),
        ([1, 2], "Input should be an object"),
    ],
)
async def test_a_wrong_report_is_refused_and_the_field_is_named(endpoint: Endpoint, body: object, says: str) -> None:
    status, error = await endpoint.post(body)
    assert status == 400
    assert error.startswith(says)
    assert endpoint.store.latest(JOB[2]) is None
    assert endpoint.reported == []


@pytest.mark.parametrize("raw", [b"", b"not json", b'{"step": 1', b"\xff\xfe", b'{"step": 1} trailing', b"[" * 9000])
async def test_a_body_that_is_not_json_is_refused(endpoint: Endpoint, raw: bytes) -> None:
    status, error = await endpoint.post(raw=raw)
    assert status == 400
    assert "JSON" in error


@pytest.mark.parametrize(
    "bearer", ["", "wrong", token(KEY, "team-a", "other", JOB[2]), token(b"another key", *JOB), "\u00e9" * 43]
)
async def test_a_token_that_is_not_the_one_of_the_job_is_401(endpoint: Endpoint, bearer: str) -> None:
    status, error = await endpoint.post({"step": 1}, bearer=bearer)
    assert status == 401
    assert "token" in error
    assert len(endpoint.store) == 0, "an unauthenticated request must not take room in the store"


async def test_a_missing_or_other_authorization_scheme_is_401(endpoint: Endpoint) -> None:
    url = f"{endpoint.base}/v1/progress/{'/'.join(JOB)}"
    for headers in ({}, {"Authorization": f"Basic {token(KEY, *JOB)}"}, {"Authorization": token(KEY, *JOB)}):
        answer = await endpoint.session.post(url, data=b'{"step": 1}', headers=headers)
        assert answer.status == 401, headers


async def test_a_body_over_16_kib_is_413_with_and_without_a_length(endpoint: Endpoint) -> None:
    big = json.dumps({"step": 1, "metrics": {}, "pad": "x" * MAX_BODY_BYTES}).encode()
    assert (await endpoint.post(raw=big))[0] == 413

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 1000):
            yield big[start : start + 1000]

    answer = await endpoint.session.post(
        f"{endpoint.base}/v1/progress/{'/'.join(JOB)}",
        data=chunks(),
        headers={"Authorization": f"Bearer {token(KEY, *JOB)}"},
    )
    assert answer.status == 413


async def test_a_replica_that_is_not_the_leader_answers_503_and_closes_the_connection(endpoint: Endpoint) -> None:
    endpoint.leader = False
    answer = await endpoint.session.post(f"{endpoint.base}/v1/progress/{'/'.join(JOB)}", data=b'{"step": 1}')
    assert answer.status == 503
    assert answer.headers["Connection"] == "close"
    endpoint.leader = True
    assert await endpoint.post({"step": 1}) == (204, "")


async def test_more_than_the_burst_is_429_with_retry_after_and_each_job_has_its_own_allowance(
    endpoint: Endpoint,
) -> None:
    answers = [(await endpoint.post({"step": step}))[0] for step in range(int(BURST) + 2)]
    assert answers == [204] * int(BURST) + [429, 429]
    assert len(endpoint.reported) == int(BURST)
    answer = await endpoint.session.post(
        f"{endpoint.base}/v1/progress/{'/'.join(JOB)}",
        data=b'{"step": 99}',
        headers={"Authorization": f"Bearer {token(KEY, *JOB)}"},
    )
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert (await endpoint.post({"step": 1}, job=("team-a", "other", "uid-2")))[0] == 204
    endpoint.now += 1.0
    assert [(await endpoint.post({"step": step}))[0] for step in range(6)] == [204] * 5 + [429]


async def test_a_reconciler_that_cannot_be_woken_does_not_lose_the_report(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.reported = None  # type: ignore[assignment]
    assert await endpoint.post({"step": 3}) == (204, "")
    assert endpoint.store.latest(JOB[2]) is not None
    assert "team-a/digits" in caplog.text


async def test_a_body_that_never_comes_is_given_up(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock_operator.runtime.progress.BODY_SECONDS", 0.05)
    host, port = endpoint.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /v1/progress/{'/'.join(JOB)} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        f"Authorization: Bearer {token(KEY, *JOB)}\r\n\r\n{{".encode()
    )
    try:
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    finally:
        writer.close()
        await writer.wait_closed()


def test_the_store_keeps_the_most_recently_seen_jobs_when_it_is_full() -> None:
    store = ProgressStore(max_jobs=2)
    progress = status_progress(Report(step=1), at=_EPOCH)
    store.keep("a", progress)
    store.keep("b", progress)
    store.keep("a", progress)
    store.keep("c", progress)
    assert [uid for uid in "abc" if store.latest(uid)] == ["a", "c"]


def test_a_token_is_url_safe_and_differs_by_every_part() -> None:
    tokens = {
        token(KEY, *JOB),
        token(b"other", *JOB),
        token(KEY, "b", *JOB[1:]),
        token(KEY, "team-a", "b", JOB[2]),
        token(KEY, *JOB[:2], "b"),
    }
    assert len(tokens) == 5
    assert all(len(made) == 43 and made.replace("-", "").replace("_", "").isalnum() for made in tokens)


@given(step=st.integers(0, 2**62), total=st.integers(0, 2**62))
def test_percent_is_between_0_and_100_and_100_only_at_the_end(step: int, total: int) -> None:
    percent = status_progress(Report.model_validate({"step": step, "totalSteps": total}), at=_EPOCH).get("percent")
    if total == 0:
        assert percent is None
    else:
        assert percent is not None
        assert 0 <= percent <= 100
        assert (percent == 100) == (step >= total)
