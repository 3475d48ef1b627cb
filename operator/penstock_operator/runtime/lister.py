"""The reconcilers' view of the cluster, in memory: jobs, volumes, and the pods of each job."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any

from penstock_operator import names
from penstock_operator.runtime.cache import Cache
from penstock_operator.runtime.objects import Objects, Slim
from penstock_operator.runtime.queue import Key
from penstock_operator.trainingjob.observe import PodView, pod_view


class Lister:
    """What decisions read. Pods that we created count before the watch has shown them, those we deleted as going."""

    def __init__(self) -> None:
        self.jobs = Objects()
        self.volumes = Objects()
        self._pods: Cache[PodView] = Cache()
        self._created: Cache[PodView] = Cache()
        self._gone: deque[str] = deque(maxlen=512)

    def job(self, key: Key) -> Slim | None:
        """The newest version known; None when the job is gone."""
        found = self.jobs.get(key)
        if found is None:
            self._created.clear(key)
        return found

    def pods(self, key: Key) -> tuple[PodView, ...]:
        seen = self._pods.get(key)
        known = {pod.uid for pod in seen}
        return (*seen, *(pod for pod in self._created.get(key) if pod.uid not in known))

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
        self._gone.append(uid)

    def sweep_pods(self, alive: Set[str], version: int) -> list[Key]:
        """Forget pods that a list at `version` did not hold. Returns the keys of their jobs."""
        return self._pods.sweep(alive, version) + self._created.sweep(alive, version)

    def created(self, key: Key, pod: Mapping[str, Any]) -> None:
        """Remember a pod that was just created (its metadata is enough: nothing has happened to it yet). One that the watch has
        shown to be gone before the answer to its creation came is not remembered: nobody would ever say so again."""
        view = pod_view(pod)
        if view.uid not in self._gone:
            self._created.see(key, view.uid, int(pod["metadata"]["resourceVersion"]), view)

    def removed(self, key: Key, uid: str, gone_at: datetime) -> None:
        """Remember that a pod's deletion was asked for. What the watch has shown since the decision stays."""
        for cache in (self._pods, self._created):
            for known in cache.get(key):
                if known.uid == uid:
                    cache.replace(key, uid, known.going(gone_at))


def pod_key(body: Mapping[str, Any]) -> Key:
    """The key of the job that a pod says it is of."""
    return body["metadata"]["namespace"], body["metadata"]["labels"][names.LABEL_JOB]
