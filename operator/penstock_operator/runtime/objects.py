"""Our own objects of one kind: what the watch has shown, with our own newest write laid over it until the watch catches up.

Without the overlay a reconcile between our write and its event would decide on stale facts. A newer resourceVersion wins (they
can be compared since Kubernetes 1.35 says so, and etcd's always could).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from penstock_operator.runtime.cache import Cache
from penstock_operator.runtime.queue import Key

Slim = dict[str, Any]

_KEPT = (
    "namespace",
    "name",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
)


def slim(body: Mapping[str, Any]) -> Slim:
    """An object without what no decision needs (managedFields and annotations are most of its size)."""
    metadata = body["metadata"]
    return {
        "metadata": {key: metadata[key] for key in _KEPT if key in metadata},
        "spec": body.get("spec") or {},
        "status": body.get("status") or {},
    }


class Objects:
    """One kind, by namespace and name."""

    def __init__(self) -> None:
        self._seen: Cache[Slim] = Cache()
        self._written: dict[Key, Slim] = {}

    def see(self, body: Mapping[str, Any]) -> bool:
        """It exists. False when this is only our own newest write coming back: there is nothing new to look at."""
        key, metadata = key_of(body), body["metadata"]
        self._seen.see(key, metadata["uid"], int(metadata["resourceVersion"]), slim(body))
        written = self._written.get(key)
        return written is None or written["metadata"]["resourceVersion"] != metadata["resourceVersion"]

    def drop(self, body: Mapping[str, Any]) -> None:
        self._seen.drop(key_of(body), body["metadata"]["uid"])

    def sweep(self, alive: Set[str], version: int) -> list[Key]:
        """Forget what a list at `version` did not hold. Returns the keys."""
        return self._seen.sweep(alive, version)

    def wrote(self, key: Key, before: Slim, metadata: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Remember a write: the status as it is now and the metadata that the API server answered with."""
        self._written[key] = slim({"metadata": metadata, "spec": before["spec"], "status": status})

    def known(self) -> list[Key]:
        return self._seen.known()

    def get(self, key: Key) -> Slim | None:
        """The newest version known; None when it is gone."""
        seen = max(self._seen.get(key), key=_version, default=None)
        if seen is None:
            self._written.pop(key, None)
            return None
        written = self._written.get(key)
        if written is None:
            return seen
        if written["metadata"]["uid"] == seen["metadata"]["uid"] and _version(written) > _version(seen):
            return written
        if _version(written) < _version(seen):
            del self._written[key]
        return seen


def key_of(body: Mapping[str, Any]) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _version(body: Slim) -> int:
    return int(body["metadata"]["resourceVersion"])
