"""The loop: take a key, observe, plan, act. Everything that decides is in `trainingjob`; everything here only moves.

Failures never leave the loop: an API error or a bug brings the key back with back-off, is counted and logged once with its
cause, and the other keys go on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from penstock_operator.kube import ApiError, ApiUnreachable
from penstock_operator.runtime.act import Actor
from penstock_operator.runtime.lister import Lister
from penstock_operator.runtime.metrics import Metrics
from penstock_operator.runtime.queue import Key, Queue
from penstock_operator.trainingjob.observe import Observed, Refusal, job_from
from penstock_operator.trainingjob.plan import plan
from penstock_operator.trainingjob.verdict import Rules

log = logging.getLogger("penstock.reconciler")


class ProgressSource(Protocol):
    """Where the newest progress report of a job is found."""

    def latest(self, uid: str) -> Mapping[str, Any] | None: ...
    def forget(self, uid: str) -> None: ...


class Reconciler:
    """Workers over one queue."""

    def __init__(
        self,
        *,
        queue: Queue,
        lister: Lister,
        actor: Actor,
        rules: Rules,
        progress: ProgressSource,
        metrics: Metrics,
        resync_seconds: float,
    ) -> None:
        self._queue, self._lister, self._actor, self._rules = queue, lister, actor, rules
        self._progress, self._metrics, self._resync_seconds = progress, metrics, resync_seconds
        self._refusals: dict[Key, Refusal] = {}
        self._uids: dict[Key, str] = {}

    async def work(self) -> None:
        """One worker; run as many as should reconcile at once."""
        while True:
            key = await self._queue.take()
            try:
                with self._metrics.reconcile():
                    again = await self.reconcile(key)
            except (ApiError, ApiUnreachable) as error:
                pause = self._queue.failed(key)
                conflict = isinstance(error, ApiError) and error.reason == "Conflict"
                level = logging.DEBUG if conflict else logging.WARNING
                log.log(level, "%s; again in %.1f s", error, pause, extra={"job": "/".join(key)})
            except asyncio.CancelledError:
                raise
            except Exception:
                pause = self._queue.failed(key)
                log.exception("a bug in the operator; again in %.1f s", pause, extra={"job": "/".join(key)})
            else:
                self._queue.done(key, again=again)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one job forward. Returns the seconds after which a clock needs another look, or None."""
        now = datetime.now(UTC)
        body = self._lister.job(key)
        if body is None:
            self._forget(key)
            return None
        self._uids[key] = body["metadata"]["uid"]
        decided = plan(self._observe(key, body), self._rules, now)
        if decided.create and not body["status"] and self._queue.depth() > 0:
            # In a burst every job gets its pods before any gets its first status. Nothing hangs on that status: the names of
            # a first attempt's children follow from the job alone.
            decided = replace(decided, status=None)
            self._queue.add_background(key)
        refusal = await self._actor.act(key, body, decided, now)
        if refusal is not None:
            self._refusals[key] = refusal
            return 0.0
        return decided.again.total_seconds() if decided.again is not None else None

    async def resync(self) -> None:
        """Add every key now and then, spread over time: heals whatever an event did not tell."""
        while True:
            await asyncio.sleep(self._resync_seconds)
            for key in self._lister.known():
                self._queue.add_after(key, random.uniform(0, self._resync_seconds * 0.2))

    def _observe(self, key: Key, body: Mapping[str, Any]) -> Observed:
        job = job_from(body)
        refusal = self._refusals.get(key)
        if refusal is not None and refusal.until <= datetime.now(UTC) - timedelta(minutes=10):
            del self._refusals[key]
        return Observed(job=job, pods=self._lister.pods(key), refusal=refusal, progress=self._progress.latest(job.uid))

    def _forget(self, key: Key) -> None:
        self._queue.forget(key)
        self._refusals.pop(key, None)
        if uid := self._uids.pop(key, None):
            self._progress.forget(uid)
