"""One reconcile of a TrainingJob: observe, plan, act. What decides is in `trainingjob`; everything here only moves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from penstock_operator.runtime.act import Actor
from penstock_operator.runtime.lister import Lister
from penstock_operator.runtime.queue import Key, Queue
from penstock_operator.runtime.usage import volumes_of
from penstock_operator.runtime.warnings import Warnings
from penstock_operator.trainingjob.observe import Observed, Refusal, job_from, storage_from
from penstock_operator.trainingjob.plan import plan
from penstock_operator.trainingjob.policies.startup import unprepared
from penstock_operator.trainingjob.verdict import Rules

log = logging.getLogger("penstock.reconciler")


class ProgressSource(Protocol):
    """Where the newest progress report of a job is found."""

    def latest(self, uid: str) -> Mapping[str, Any] | None: ...
    def forget(self, uid: str) -> None: ...


class Refusals:
    """What the API server would not take, by job. Each further refusal of one kind and spec doubles the pause, up to
    sixteenfold: half a ring made and given back every half minute would keep an autoscaler busy for nothing."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[str, int, Refusal]] = {}

    def add(self, key: Key, body: Mapping[str, Any], refusal: Refusal, now: datetime) -> None:
        spec, times, before = self._known.get(key, ("", 0, refusal))
        times = times + 1 if spec == _spec(body) and before.reason == refusal.reason else 1
        pause = (refusal.until - now) * 2 ** min(times - 1, 4)
        self._known[key] = (_spec(body), times, replace(refusal, until=now + pause))

    def of(self, key: Key, body: Mapping[str, Any]) -> Refusal | None:
        """The newest refusal of this job as it is specified now."""
        spec, _, refusal = self._known.get(key, ("", 0, None))
        return refusal if spec == _spec(body) else None

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)


def _spec(body: Mapping[str, Any]) -> str:
    return f"{body['metadata']['uid']}/{body['metadata'].get('generation', 1)}"


class Reconciler:
    """Brings jobs forward; loop.py calls it for each key."""

    def __init__(
        self,
        *,
        queue: Queue,
        lister: Lister,
        actor: Actor,
        rules: Rules,
        progress: ProgressSource,
        warnings: Warnings,
    ) -> None:
        self._queue, self._lister, self._actor, self._rules = queue, lister, actor, rules
        self._progress, self._warnings = progress, warnings
        self._refusals = Refusals()
        self._uids: dict[Key, str] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Bring one job forward. Returns the seconds after which a clock needs another look, or None."""
        now = datetime.now(UTC)
        body = self._lister.job(key)
        if body is None:
            self._forget(key)
            return None
        self._uids[key] = body["metadata"]["uid"]
        observed = self._observe(key, body)
        if waiting := unprepared(observed, self._rules, now):
            if await self._warnings.refresh(key, waiting, now):
                return 0.0
            observed = replace(observed, warning=self._warnings.about(key, waiting))
        decided = plan(observed, self._rules, now)
        if decided.create and not body["status"] and self._queue.depth() > 0:
            # In a burst every job gets its pods before any gets its first status. Nothing hangs on that status: the names of
            # a first attempt's children follow from the job alone.
            decided = replace(decided, status=None)
            self._queue.add_background(key)
        refusal = await self._actor.act(key, body, decided, now)
        if refusal is not None:
            self._refusals.add(key, body, refusal, now)
            return 0.0
        return decided.again.total_seconds() if decided.again is not None else None

    def _observe(self, key: Key, body: Mapping[str, Any]) -> Observed:
        job = job_from(body)
        refusal = self._refusals.of(key, body)
        volumes = {name: self._lister.volumes.get((namespace, name)) for namespace, name in volumes_of(body)}
        return Observed(
            job=job,
            pods=self._lister.pods(key),
            refusal=refusal,
            progress=self._progress.latest(job.uid),
            storage={name: storage_from(found) for name, found in volumes.items() if found is not None},
        )

    def _forget(self, key: Key) -> None:
        self._queue.forget(key)
        self._refusals.forget(key)
        self._warnings.forget(key)
        if uid := self._uids.pop(key, None):
            self._progress.forget(uid)
