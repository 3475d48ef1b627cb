"""What the kubelet says of a pod that does not get its volumes or its network: it says so in events, and nowhere else.

A missing ConfigMap, Secret or claim is then named in the job's own status. Asked only for a pod that stands still, not again
for a while, and for few pods at once: events are not indexed, so for each question the API server reads all of the namespace's,
and when a node's network fails many jobs stand still together.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from penstock_operator.kube import ApiError, ApiUnreachable, Kube
from penstock_operator.runtime.queue import Key
from penstock_operator.trainingjob.observe import PodView

log = logging.getLogger("penstock.reconciler")

_KEPT = timedelta(seconds=30)
_PATIENCE = 5.0
_AT_ONCE = 2
# Others say why the pod waited for its node, and that is over. Source: pkg/kubelet/events/event.go, attach/detach controller.
_REASONS = {"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"}
# Comes two minutes later than the cause and names only which volumes are still missing.
_GENERAL = "Unable to attach or mount volumes"


class Warnings:
    """The newest warning about the pod that a job waits for, by job."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[Key, tuple[str, datetime, str]] = {}
        self._asking = asyncio.Semaphore(_AT_ONCE)

    def about(self, key: Key, pod: PodView) -> str:
        """The kubelet's sentence, as last asked for; empty where it said nothing."""
        uid, _, said = self._known.get(key, ("", None, ""))
        return said if uid == pod.uid else ""

    async def refresh(self, key: Key, pod: PodView, now: datetime) -> bool:
        """Ask, if it was not asked just now. True when it was: what was observed before is old then."""
        uid, asked, _ = self._known.get(key, ("", now, ""))
        if uid == pod.uid and now - asked < _KEPT:
            return False
        self._known[key] = (pod.uid, now, await self._ask(key, pod))
        return True

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)

    async def _ask(self, key: Key, pod: PodView) -> str:
        query = f"?fieldSelector=regarding.uid%3D{pod.uid},type%3DWarning"
        try:
            async with self._asking, asyncio.timeout(_PATIENCE):
                found = await self._kube.list("Event", key[0], query)
        except (ApiError, ApiUnreachable, TimeoutError) as error:
            log.warning("the events of %s cannot be read: %s", pod.name, error, extra={"trainingjob": "/".join(key)})
            return self.about(key, pod)
        events = sorted((one for one in found["items"] if one.get("reason") in _REASONS), key=_version)
        notes = [note for one in events if (note := " ".join((one.get("note") or "").split()))]
        notes = [note for note in notes if not note.startswith(_GENERAL)] or notes
        return notes[-1][:300] if notes else ""


def _version(event: dict[str, dict[str, str]]) -> int:
    return int(event["metadata"]["resourceVersion"])
