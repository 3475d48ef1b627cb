"""Events for users: posted in the background, never in the way of a reconcile, never twice for one transition.

While reconciles wait in the queue events wait too (a burst of jobs should get its pods first), but not for long. When more than
`limit` are pending the oldest are dropped: events are a courtesy, the status is the record.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from penstock_operator import names
from penstock_operator.events import Event
from penstock_operator.kube import ApiError, ApiUnreachable, Kube, Object
from penstock_operator.runtime.objects import Slim

log = logging.getLogger("penstock.events")


class Recorder:
    """Collects events and posts them as events.k8s.io/v1."""

    def __init__(self, kube: Kube, instance: str, busy: Callable[[], bool], limit: int = 2000, patience: float = 20.0) -> None:
        self._kube, self._instance, self._busy, self._patience = kube, instance, busy, patience
        self._pending: deque[Object] = deque(maxlen=limit)
        self._wake = asyncio.Event()

    def record(self, about: Slim, event: Event, kind: str = names.KIND) -> None:
        """Queue one event; returns at once."""
        where = f"{about['metadata']['namespace']}/{about['metadata']['name']}"
        log.info("%s: %s", event.reason, event.message, extra={kind.lower(): where})
        self._pending.append(event_object(about, event, self._instance, datetime.now(UTC), kind))
        self._wake.set()

    async def run(self) -> None:
        """Post what is pending, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waited = 0.0
            while self._busy() and waited < self._patience:
                await asyncio.sleep(0.1)
                waited += 0.1
            while self._pending:
                await self._post(self._pending.popleft())

    async def _post(self, body: Object) -> None:
        try:
            await self._kube.create(body)
        except (ApiError, ApiUnreachable) as error:
            if not (isinstance(error, ApiError) and error.reason in ("AlreadyExists", "NotFound", "Forbidden")):
                log.warning("event %s not posted: %s", body["reason"], error)


def event_object(about: Slim, event: Event, instance: str, now: datetime, kind: str = names.KIND) -> Object:
    """The Event. Its name follows from what it says about which version, so that a repeated post is one event."""
    metadata = about["metadata"]
    seed = "/".join((metadata["uid"], metadata["resourceVersion"], event.reason, event.message))
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(seed.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": names.CONTROLLER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "type": event.kind,
        "reason": event.reason,
        "note": event.message.encode()[:1024].decode(errors="ignore"),  # the API's limit counts bytes
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": kind,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    }
