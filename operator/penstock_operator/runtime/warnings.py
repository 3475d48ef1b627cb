"""What the kubelet says of a pod that does not get its volumes or its network: it says so in events, and nowhere else.

A missing ConfigMap, Secret or claim is then named in the job's own status. Asked only for a pod that stands still, and not
again for a while: events are not indexed, so the API server reads all of the namespace's.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from penstock_operator.kube import ApiError, ApiUnreachable, Kube
from penstock_operator.runtime.queue import Key
from penstock_operator.trainingjob.observe import PodView

log = logging.getLogger("penstock.reconciler")

_KEPT = timedelta(seconds=30)
# Comes two minutes later than the cause and names only which volumes are still missing.
_GENERAL = "Unable to attach or mount volumes"


class Warnings:
    """The newest warning about a pod, by job."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[Key, tuple[str, datetime, str]] = {}

    async def about(self, key: Key, pod: PodView, now: datetime) -> str:
        """The kubelet's sentence; empty where it said nothing, or nobody could be asked."""
        uid, asked, said = self._known.get(key, ("", now, ""))
        if uid != pod.uid or now - asked >= _KEPT:
            said = await self._ask(key, pod)
            self._known[key] = (pod.uid, now, said)
        return said

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)

    async def _ask(self, key: Key, pod: PodView) -> str:
        try:
            found = await self._kube.list("Event", key[0], f"?fieldSelector=regarding.uid%3D{pod.uid},type%3DWarning")
        except (ApiError, ApiUnreachable) as error:
            log.warning("the events of %s cannot be read: %s", pod.name, error, extra={"trainingjob": "/".join(key)})
            return ""
        notes = [one.get("note") or "" for one in sorted(found["items"], key=_version)]
        best = [note for note in notes if note and not note.startswith(_GENERAL)] or [note for note in notes if note]
        return " ".join(best[-1].split())[:300] if best else ""


def _version(event: dict[str, dict[str, str]]) -> int:
    return int(event["metadata"]["resourceVersion"])
