"""Leader election on a coordination.k8s.io/v1 Lease, the way client-go does it: only the holder reconciles.

`next_step` is the whole decision, pure over the Lease as read and a monotonic clock; `Elector` does the I/O. Time of the other
replica is never trusted: a foreign Lease counts as expired when it has not changed for its duration by our own clock.
The process exits when it loses the Lease: a fresh process is the one state that surely holds nothing stale.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from penstock_operator.kube import ApiError, ApiUnreachable, Kube, Object

log = logging.getLogger("penstock.lease")

NAME = "penstock-operator"


@dataclass(frozen=True, slots=True)
class Seen:
    """A foreign Lease as last seen: its version and when (own monotonic clock, seconds) it last changed."""

    version: str = ""
    since: float = 0.0


Step = Literal["create", "take", "renew", "wait"]


def next_step(lease: Mapping[str, Any] | None, identity: str, seen: Seen, now: float) -> Step:
    """What to do about the Lease as it is."""
    if lease is None:
        return "create"
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity")
    if holder == identity:
        return "renew"
    if not holder:
        return "take"
    expired = seen.version == lease["metadata"]["resourceVersion"] and now - seen.since > spec.get("leaseDurationSeconds", 15)
    return "take" if expired else "wait"


class LostLease(RuntimeError):
    """Another replica holds the Lease, or it could not be renewed in time."""


class Elector:
    """Acquire, keep and release the Lease."""

    def __init__(self, kube: Kube, namespace: str, identity: str, duration: float = 15.0, renew: float = 5.0) -> None:
        self._kube, self._namespace, self._identity = kube, namespace, identity
        self._duration, self._renew = duration, renew
        self._seen = Seen()
        self._renewed = 0.0
        self.leading = False

    async def acquire(self) -> None:
        """Return when the Lease is ours. The API server being away is waited out."""
        told = False
        while True:
            asked = time.monotonic()
            try:
                if await self._try():
                    self._renewed = asked
                    self.leading = True
                    log.info("leading as %s", self._identity)
                    return
                if not told:
                    log.info("another replica leads; waiting for the Lease %s/%s", self._namespace, NAME)
                    told = True
            except (ApiError, ApiUnreachable) as error:
                log.warning("the Lease cannot be had yet: %s", error)
            await asyncio.sleep(min(2.0, self._renew))

    async def keep(self) -> None:
        """Renew for ever.

        Raises:
            LostLease: not renewed for two thirds of its duration; another replica may take over soon.
        """
        while True:
            await asyncio.sleep(self._renew)
            try:
                asked = time.monotonic()
                async with asyncio.timeout(self._renew):
                    # A conflict may be our own write that was answered too late, or somebody's annotation: look again.
                    if not (await self._try() or await self._try()):
                        self.leading = False
                        raise LostLease("another replica took the Lease")
                self._renewed = asked
            except (ApiError, ApiUnreachable, TimeoutError) as error:
                silent = time.monotonic() - self._renewed
                log.warning("the Lease was not renewed for %.0f s: %s", silent, error or "time-out")
                if silent > self._duration * 2 / 3:
                    self.leading = False
                    raise LostLease(f"the Lease was not renewed for {silent:.0f} s") from error

    async def release(self) -> None:
        """Give the Lease up, so that a successor need not wait for it to expire."""
        if not self.leading:
            return
        self.leading = False
        try:
            lease = await self._read()
            if lease and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._kube.update(lease)
        except (ApiError, ApiUnreachable) as error:
            log.warning("the Lease was not released: %s", error)

    async def _try(self) -> bool:
        lease = await self._read()
        now = time.monotonic()
        step = next_step(lease, self._identity, self._seen, now)
        if lease is not None and lease["metadata"]["resourceVersion"] != self._seen.version:
            self._seen = Seen(lease["metadata"]["resourceVersion"], now)
        if step == "wait":
            return False
        try:
            if lease is None:
                await self._kube.create(self._body(None))
            else:
                await self._kube.update(self._body(lease))
        except ApiError as error:
            if error.reason in ("Conflict", "AlreadyExists"):
                return False
            raise
        return True

    async def _read(self) -> Object | None:
        try:
            return await self._kube.get("Lease", self._namespace, NAME)
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise

    def _body(self, lease: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict((lease or {}).get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if lease else 0)}
        spec |= {"holderIdentity": self._identity, "leaseDurationSeconds": round(self._duration), "renewTime": now}
        metadata = {"name": NAME, "namespace": self._namespace}
        if lease is not None:
            metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
