"""The reconcilers' view of the cluster, in memory: what the watch has shown, and what we wrote ourselves and have not seen come
back yet.

Our own writes would be invisible until their watch event returns, and a reconcile in between would decide on stale facts; so
the answers of our writes are laid over the caches until the watch has caught up. A newer resourceVersion wins (they can be
compared since Kubernetes 1.35 says so, and etcd's always could).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from penstock_operator import names
from penstock_operator.runtime.cache import Cache
from penstock_operator.runtime.queue import Key
from penstock_operator.trainingjob.observe import PodView, pod_view

SlimJob = dict[str, Any]


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
        self._jobs: Cache[SlimJob] = Cache()
        self._pods: Cache[PodView] = Cache()
        self._written: dict[Key, SlimJob] = {}
        self._created: Cache[PodView] = Cache()

    # --- what the watch shows -------------------------------------------------------------------------------------------------

    def see_job(self, body: Mapping[str, Any]) -> bool:
        """A job exists. False when this is only our own newest status write coming back: there is nothing new to look at."""
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        self._jobs.see(key, metadata["uid"], int(metadata["resourceVersion"]), slim_job(body))
        written = self._written.get(key)
        return written is None or written["metadata"]["resourceVersion"] != metadata["resourceVersion"]

    def drop_job(self, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        self._jobs.drop((metadata["namespace"], metadata["name"]), metadata["uid"])

    def see_pod(self, body: Mapping[str, Any]) -> bool:
        """A pod exists; from now on the cache alone speaks for it. False when this is only what we created coming back."""
        key, metadata = pod_key(body), body["metadata"]
        version = int(metadata["resourceVersion"])
        self._pods.see(key, metadata["uid"], version, pod_view(body))
        return not self._created.take(key, metadata["uid"], version)

    def drop_pod(self, body: Mapping[str, Any]) -> None:
        key, uid = pod_key(body), body["metadata"]["uid"]
        self._pods.drop(key, uid)
        self._created.drop(key, uid)

    def sweep_jobs(self, alive: Set[str], version: int) -> list[Key]:
        """Forget jobs that a list at `version` did not hold. Returns their keys."""
        return self._jobs.sweep(alive, version)

    def sweep_pods(self, alive: Set[str], version: int) -> list[Key]:
        """Forget pods that a list at `version` did not hold. Returns the keys of their jobs."""
        return self._pods.sweep(alive, version) + self._created.sweep(alive, version)

    # --- what we wrote --------------------------------------------------------------------------------------------------------

    def wrote(self, key: Key, job: SlimJob, metadata: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Remember a status write: the new status and the metadata that the API server answered with."""
        self._written[key] = slim_job({"metadata": metadata, "spec": job["spec"], "status": status})

    def created(self, key: Key, pod: Mapping[str, Any]) -> None:
        """Remember a pod that was just created (its metadata is enough: nothing has happened to it yet)."""
        view = pod_view(pod)
        self._created.see(key, view.uid, int(pod["metadata"]["resourceVersion"]), view)

    def removed(self, key: Key, pod: PodView) -> None:
        """Remember that a pod's deletion was asked for."""
        going = replace(pod, deleting=True)
        self._pods.replace(key, pod.uid, going)
        self._created.replace(key, pod.uid, going)

    # --- what decisions read --------------------------------------------------------------------------------------------------

    def known(self) -> list[Key]:
        return self._jobs.keys()

    def job(self, key: Key) -> SlimJob | None:
        """The newest version known; None when the job is gone."""
        seen = max(self._jobs.get(key), key=_version, default=None)
        if seen is None:
            self._written.pop(key, None)
            self._created.clear(key)
            return None
        written = self._written.get(key)
        if written is None:
            return seen
        if written["metadata"]["uid"] == seen["metadata"]["uid"] and _version(written) > _version(seen):
            return written
        if _version(written) < _version(seen):
            del self._written[key]
        return seen

    def pods(self, key: Key) -> tuple[PodView, ...]:
        seen = self._pods.get(key)
        known = {pod.uid for pod in seen}
        return (*seen, *(pod for pod in self._created.get(key) if pod.uid not in known))


def pod_key(body: Mapping[str, Any]) -> Key:
    """The key of the job that a pod says it is of."""
    return body["metadata"]["namespace"], body["metadata"]["labels"][names.LABEL_JOB]


def _version(job: SlimJob) -> int:
    return int(job["metadata"]["resourceVersion"])
