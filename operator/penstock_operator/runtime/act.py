"""Carry out a plan: status, then new children (what pods stand on before the pods), then deletions, then events.

The status write is conditional on the version the plan was computed from, and everything waits for it: a plan made from stale
facts changes nothing and the key comes back, and what was decided is on record before the evidence goes. Only the first pods of
a burst are made before any status (reconciler.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.conditions import Status, difference
from penstock_operator.kube import ApiError, Kube
from penstock_operator.names import Reason
from penstock_operator.runtime.lister import Lister
from penstock_operator.runtime.objects import Slim
from penstock_operator.runtime.queue import Key
from penstock_operator.runtime.recorder import Recorder
from penstock_operator.trainingjob.children.common import Child
from penstock_operator.trainingjob.children.origin import origin, origins
from penstock_operator.trainingjob.events import events
from penstock_operator.trainingjob.observe import Refusal, maker
from penstock_operator.trainingjob.verdict import Plan, Removal

log = logging.getLogger("penstock.reconciler")

# Made of what programs say.
_TOLD = ("failure", "progress")
# The garbage collector follows a deletion within moments, and of a NetworkPolicy's end no watch tells.
_GARBAGE = timedelta(seconds=1)


class Refused(Exception):
    """The API server will not take a child as it is; waiting or changing something may help, asking again at once does not."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Actor:
    """Turns plans into API calls."""

    def __init__(self, kube: Kube, lister: Lister, recorder: Recorder, refusal_retry: timedelta) -> None:
        self._kube, self._lister, self._recorder, self._refusal_retry = kube, lister, recorder, refusal_retry

    async def act(self, key: Key, job: Slim, plan: Plan, now: datetime) -> Refusal | None:
        """Do what the plan says. Returns a refusal when a child was not taken; an ApiError may be tried again."""
        if plan.remove_job:
            await self._remove_job(key, job)
            return None
        await self._write_status(key, job, plan)
        pods = [child for child in plan.create if child["kind"] == "Pod"]
        refused = await self._rehearse(job, plan.rehearse)
        refused = refused or await self._create_all(key, job, [child for child in plan.create if child["kind"] != "Pod"])
        refused = refused or await self._create_all(key, job, pods)
        await _all(self._remove(key, removal) for removal in plan.remove)
        if refused is None:
            return None
        launcher = bool(pods) and pods[0]["metadata"]["labels"][names.LABEL_ROLE] == names.ROLE_LAUNCHER
        retry = _GARBAGE if refused.reason == Reason.WAITING_FOR_PREDECESSOR else self._refusal_retry
        return Refusal(refused.reason, refused.message, now + retry, launcher)

    async def _write_status(self, key: Key, job: Slim, plan: Plan) -> None:
        if plan.status is None:
            return
        old, new = job["status"], plan.status
        told = [one for one in _TOLD if old.get(one) != new.get(one)]
        try:
            await self._patch_status(key, job, new)
        except ApiError as error:
            if error.status != 422 or not told:
                raise
            # Nothing that a program says may keep its job from ending, or its nodes from being given back.
            log.warning("the status goes without %s: %s", " and ".join(told), error, extra={"trainingjob": "/".join(key)})
            await self._patch_status(key, job, new | {one: old.get(one) for one in told})

    async def _patch_status(self, key: Key, job: Slim, status: Status) -> None:
        patch = difference(job["status"], status)
        if not patch:
            return
        written = await self._kube.patch_status(names.KIND, *key, job["metadata"]["resourceVersion"], patch)
        self._lister.jobs.wrote(key, job, written["metadata"], status)
        for event in events(job["status"], status):
            self._recorder.record(job, event)

    async def _rehearse(self, job: Slim, children: Iterable[Child]) -> Refused | None:
        for child in children:
            try:
                await self._kube.create(child, dry_run=True)
            except ApiError as error:
                refusal = _refusal(error, child, job)
                if refusal is not None and refusal.reason == Reason.POD_REFUSED:  # room in a quota may come until then
                    return refusal
        return None

    async def _create_all(self, key: Key, job: Slim, children: list[Child]) -> Refused | None:
        """Create in parallel. Returns a refusal; any other trouble is raised."""
        return next(iter(await _all(self._create(key, job, child) for child in children)), None)

    async def _create(self, key: Key, job: Slim, child: Child) -> None:
        kind, name = child["kind"], child["metadata"]["name"]
        try:
            made = await self._kube.create(child)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                await self._check_ours(key, job, kind, name)
                return
            if refusal := _refusal(error, child, job):
                raise refusal from error
            raise
        if kind == "Pod":
            self._lister.created(key, made)

    async def _check_ours(self, key: Key, job: Slim, kind: str, name: str) -> None:
        """A namesake is ours when its controller is this very job. A Secret's name holds the job's uid, so it is."""
        if kind == "Secret":
            return
        found = await self._kube.get(kind, key[0], name)  # gone between the two calls: an error, and the key comes back
        made_by = maker(found["metadata"])
        if made_by == job["metadata"]["uid"]:
            if kind == "Pod":
                self._lister.created(key, found)
            return
        if made_by:  # names of children hold the job's, so it is of an earlier job, and the garbage collector's
            raise Refused(
                Reason.WAITING_FOR_PREDECESSOR,
                f"{kind} {name} of the deleted job of this name is still there; it is waited for",
            )
        raise Refused(
            Reason.NAME_CONFLICT, f"{kind} {name} exists and is not part of this job; delete or rename it, or rename the job"
        )

    async def _remove(self, key: Key, removal: Removal) -> None:
        pod, grace = removal.pod, removal.pod.grace
        try:
            await self._kube.delete("Pod", key[0], pod.name, uid=pod.uid)
        except ApiError as error:
            if error.reason != "NotFound":  # a conflict too: the next look knows more
                raise
            grace = timedelta(0)
        self._lister.removed(key, pod.uid, datetime.now(UTC) + grace)

    async def _remove_job(self, key: Key, job: Slim) -> None:
        metadata = job["metadata"]
        try:  # the version too: its time to live may just have been changed
            await self._kube.delete(names.KIND, *key, uid=metadata["uid"], version=metadata["resourceVersion"])
        except ApiError as error:
            if error.reason != "NotFound":
                raise


async def _all(calls: Iterable[Coroutine[Any, Any, None]]) -> list[Refused]:
    """Make calls in parallel; returns the refusals. Any other trouble is raised once all have answered: who raises lets go of
    the key, and nothing may still be on its way when the next worker takes it."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Refused):
            raise result
    return [result for result in results if isinstance(result, Refused)]


def _refusal(error: ApiError, child: Child, job: Slim) -> Refused | None:
    """Tell a refusal from a passing trouble. Quota and PodSecurity admission answer 403, validation 422, decoding 400."""
    kind, name = child["kind"], child["metadata"]["name"]
    causes = "; ".join(
        f"{origin(child, job['spec'], one.get('field') or '')}: {one.get('message')}"
        for one in error.details.get("causes") or ()
    )
    if error.status == 403 and "exceeded quota" in error.message:
        return Refused(
            Reason.QUOTA_EXCEEDED,
            f"{kind} {name}: {error.message.partition(': ')[2] or error.message}; free or raise the quota",
        )
    if error.status == 403 and "because it is being terminated" in error.message:
        return None
    if error.status in (400, 403, 422):
        # The decoder's sentence begins with the kind and what it cannot be handled as.
        said = error.message.rpartition("strict decoding error: ")[2]
        return Refused(Reason.POD_REFUSED, f"{kind} {name} was refused: {causes or origins(child, job['spec'], said)}")
    return None
