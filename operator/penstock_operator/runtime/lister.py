"""What the watches have shown, plus what we wrote ourselves and have not seen come back yet.

kopf's indexes are filled before the first event handler runs, so the first reconcile sees all children. Our own writes would be
invisible until their watch event returns, and a reconcile in between would decide on stale facts; so the answers of our writes
are laid over the indexes until the watch has caught up. A newer resourceVersion wins (they can be compared since Kubernetes
1.35 says so, and etcd's always could).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from penstock_operator.runtime.queue import Key
from penstock_operator.trainingjob.observe import PodView, pod_view

SlimJob = dict[str, Any]


class Index(Protocol):
    """The read side of a kopf index."""

    def __contains__(self, key: object) -> bool: ...
    def __getitem__(self, key: Any) -> Iterable[Any]: ...
    def __iter__(self) -> Any: ...


def slim_job(body: Mapping[str, Any]) -> SlimJob:
    """A TrainingJob without what no decision needs (managedFields and annotations are most of its size)."""
    metadata = body["metadata"]
    kept = ("namespace", "name", "uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp")
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": body.get("spec") or {},
        "status": body.get("status") or {},
    }


class Lister:
    """Jobs by key and pods by job, from memory."""

    def __init__(self) -> None:
        self._jobs: Index = {}
        self._pods: Index = {}
        self._written: dict[Key, SlimJob] = {}
        self._created: dict[Key, dict[str, tuple[str, PodView]]] = {}

    def connect(self, jobs: Index, pods: Index) -> None:
        """Hand over kopf's indexes; called once, at start-up."""
        self._jobs, self._pods = jobs, pods

    def known(self) -> list[Key]:
        return list(self._jobs)

    def job(self, key: Key) -> SlimJob | None:
        """The newest version known; None when the job is gone."""
        seen: SlimJob | None = next(iter(self._jobs[key]), None) if key in self._jobs else None
        written = self._written.get(key)
        if seen is None:
            self._written.pop(key, None)
            self._created.pop(key, None)
            return None
        if written is None:
            return seen
        if written["metadata"]["uid"] == seen["metadata"]["uid"] and _version(written) > _version(seen):
            return written
        del self._written[key]
        return seen

    def pods(self, key: Key) -> tuple[PodView, ...]:
        seen: list[PodView] = list(self._pods[key]) if key in self._pods else []
        created = self._created.get(key)
        if not created:
            return tuple(seen)
        known = {pod.uid for pod in seen}
        return (*seen, *(pod for uid, (_, pod) in created.items() if uid not in known))

    def wrote(self, key: Key, job: SlimJob, metadata: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Remember a status write: the new status and the metadata that the API server answered with."""
        self._written[key] = slim_job({"metadata": metadata, "spec": job["spec"], "status": status})

    def is_own_write(self, key: Key, resource_version: str) -> bool:
        """True when this event only brings back our newest status write: there is nothing new to look at."""
        written = self._written.get(key)
        return written is not None and written["metadata"]["resourceVersion"] == resource_version

    def created(self, key: Key, pod: Mapping[str, Any]) -> None:
        """Remember a pod that was just created (its metadata is enough: nothing has happened to it yet)."""
        view = pod_view(pod)
        self._created.setdefault(key, {})[view.uid] = (pod["metadata"]["resourceVersion"], view)

    def pod_seen(self, key: Key, uid: str, resource_version: str) -> bool:
        """The watch has shown this pod: from now on the index alone speaks for it. True when the event only brings back what
        we created, so that there is nothing new to look at."""
        created = self._created.get(key)
        if created is None:
            return False
        version, _ = created.pop(uid, ("", None))
        if not created:
            del self._created[key]
        return version == resource_version


def _version(job: SlimJob) -> int:
    return int(job["metadata"]["resourceVersion"])
