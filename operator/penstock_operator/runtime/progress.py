"""Where a job's rank 0 reports: POST /v1/progress/{namespace}/{name}/{uid} with the job's bearer token.

The token is computed from the operator's key and the job's identity, so nothing has to be stored or looked up to check
it, and one job's token is worthless for another. Reports are held in memory only: the latest of each job, which the
reconciler copies into status.progress. An operator that restarts has no report until the next post, a second later.

Limits: bodies of 16 KiB, 32 metrics, about five reports a second for each job (more are answered 429 and dropped,
because each could become a write of status), and a bounded number of jobs. Only the leader writes status, so another
replica answers 503 and closes the connection; the client tries again and the Service picks anew.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, NotRequired, TypedDict

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from penstock_operator.trainingjob.children.keys import progress_token

log = logging.getLogger(__name__)

PATH = "/v1/progress/{namespace}/{name}/{uid}"
MAX_BODY_BYTES = 16 * 1024
MAX_METRICS = 32
MAX_JOBS = 10_000
REPORTS_PER_SECOND = 5.0
BURST = 10.0
"""Room for a client that retries or closes right after a report; the library itself posts once a second."""
BODY_SECONDS = 10.0
"""A report is one packet; a body that takes longer is a stuck or hostile client and must not hold a connection."""


class StatusProgress(TypedDict):
    """status.progress of a TrainingJob, as it is written to the API server."""

    step: int
    totalSteps: NotRequired[int]
    epoch: NotRequired[int]
    totalEpochs: NotRequired[int]
    percent: NotRequired[int]
    etaSeconds: NotRequired[int]
    samplesPerSecond: NotRequired[float]
    metrics: NotRequired[dict[str, float]]
    updatedAt: str


Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,63}$")]


class Report(BaseModel):
    """What rank 0 posts. Strict: a string is not a number and an unknown field is an error, not a typo that vanishes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)

    step: Count
    total_steps: Count | None = None
    epoch: Count | None = None
    total_epochs: Count | None = None
    samples_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    eta_seconds: Count | None = None
    metrics: Annotated[dict[MetricName, Finite], Field(max_length=MAX_METRICS)] = Field(default_factory=dict)


def status_progress(report: Report, at: datetime) -> StatusProgress:
    """The report as status.progress; fields that were not reported are absent."""
    status: StatusProgress = {"step": report.step, "updatedAt": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if report.total_steps is not None:
        status["totalSteps"] = report.total_steps
    if report.total_steps:
        # Rounded down: 100 means finished, never 99.6.
        status["percent"] = min(100, report.step * 100 // report.total_steps)
    if report.epoch is not None:
        status["epoch"] = report.epoch
    if report.total_epochs is not None:
        status["totalEpochs"] = report.total_epochs
    if report.eta_seconds is not None:
        status["etaSeconds"] = report.eta_seconds
    if report.samples_per_second is not None:
        status["samplesPerSecond"] = report.samples_per_second
    if report.metrics:
        status["metrics"] = dict(report.metrics)
    return status


@dataclass(slots=True)
class _Entry:
    tokens: float = BURST
    refilled_at: float = 0.0
    latest: StatusProgress | None = None


class ProgressStore:
    """The latest report of each job by uid, and how fast each job reports. The least recently seen job goes first."""

    def __init__(self, max_jobs: int = MAX_JOBS) -> None:
        self._max_jobs = max_jobs
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def latest(self, uid: str) -> StatusProgress | None:
        entry = self._entries.get(uid)
        return entry.latest if entry else None

    def forget(self, uid: str) -> None:
        self._entries.pop(uid, None)

    def keep(self, uid: str, progress: StatusProgress) -> None:
        self._entry(uid).latest = progress

    def wait_seconds(self, uid: str, now: float) -> float:
        """0 when a report of this job may be taken now (and counts it), else how long to wait. Token bucket."""
        entry = self._entry(uid)
        entry.tokens = min(BURST, entry.tokens + (now - entry.refilled_at) * REPORTS_PER_SECOND)
        entry.refilled_at = now
        if entry.tokens < 1.0:
            return (1.0 - entry.tokens) / REPORTS_PER_SECOND
        entry.tokens -= 1.0
        return 0.0

    def _entry(self, uid: str) -> _Entry:
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = _Entry()
            while len(self._entries) > self._max_jobs:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(uid)
        return entry


def routes(
    store: ProgressStore,
    key: Callable[[], bytes | None],
    on_report: Callable[[str, str], None],
    is_leader: Callable[[], bool],
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[web.RouteDef]:
    """The endpoint, to be added to the operator's one web application. `key` is None until the operator has read it.
    `on_report(namespace, name)` must not block."""

    async def post(request: web.Request) -> web.Response:
        part: Mapping[str, str] = request.match_info
        namespace, name, uid = part["namespace"], part["name"], part["uid"]
        secret = key()
        if secret is None or not is_leader():
            return _refused(503, "this replica is not the leader; try again on a new connection", close=True)
        if not _bears(request, progress_token(secret, namespace, name, uid)):
            return _refused(401, "the bearer token is not the one of this job", close=True)
        wait = store.wait_seconds(uid, monotonic())
        if wait > 0:
            return _refused(429, f"more than {REPORTS_PER_SECOND:g} reports a second", retry_after=max(1, round(wait)))
        body = await _read(request)
        if isinstance(body, web.Response):
            return body
        try:
            report = Report.model_validate_json(body)
        except ValidationError as error:
            return _refused(400, _reason(error))
        store.keep(uid, status_progress(report, datetime.fromtimestamp(clock(), UTC)))
        try:
            on_report(namespace, name)
        except Exception:
            log.exception("progress of %s/%s is kept, but its job could not be queued", namespace, name)
        return web.Response(status=204)

    return [web.post(PATH, post)]


def _bears(request: web.Request, expected: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Bytes: compare_digest refuses str with characters outside ASCII, and a header may hold any.
    given_bytes = given.strip().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given_bytes, expected.encode()) and scheme.lower() == "bearer"


async def _read(request: web.Request) -> bytes | web.Response:
    too_long = f"the report is longer than {MAX_BODY_BYTES} bytes"
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return _refused(413, too_long, close=True)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return _refused(413, too_long, close=True)
    except TimeoutError:
        return _refused(408, f"the report did not arrive within {BODY_SECONDS:g} s", close=True)
    return bytes(body)


def _reason(error: ValidationError) -> str:
    """The first fault as 'field: what is wrong', in the names the client used."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    reason = f"{where[:100]}: {fault['msg']}" if where else fault["msg"]
    others = error.error_count() - 1
    return f"{reason[:300]}{f' (and {others} more)' if others else ''}"


def _refused(status: int, reason: str, *, close: bool = False, retry_after: int | None = None) -> web.Response:
    response = web.json_response({"error": reason}, status=status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if close:
        response.force_close()
    return response
