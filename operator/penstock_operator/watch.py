"""The watch layer: kopf's watches fill the caches and add keys to the queues. The only module that imports kopf.

kopf's `on.event` handlers neither write to the object nor add finalizers, and cost one call an event; its change handlers would
keep a copy of every spec in an annotation and know nothing of the children, and its indexes do not scale (cache.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf

from penstock_operator import names
from penstock_operator.credentials import Credentials
from penstock_operator.runtime.lister import Lister, pod_key
from penstock_operator.runtime.objects import key_of
from penstock_operator.runtime.queue import Key, Queue
from penstock_operator.runtime.sync import Source, Sync
from penstock_operator.runtime.usage import Usage


@dataclass(frozen=True, slots=True)
class Feed:
    """Where events go: caches first, then the keys that somebody should look at."""

    lister: Lister
    usage: Usage
    jobs: Queue
    volumes: Queue

    def job(self, body: Any) -> None:
        new = self.lister.jobs.see(body)
        for volume in self.usage.see(body):
            self.volumes.add(volume)
        if new:
            self.jobs.add(key_of(body))

    def job_gone(self, body: Any) -> None:
        self.lister.jobs.drop(body)
        for volume in self.usage.drop(key_of(body)):
            self.volumes.add(volume)
        self.jobs.add(key_of(body))

    def pod(self, body: Any) -> None:
        if self.lister.see_pod(body):
            self.jobs.add(pod_key(body))

    def pod_gone(self, body: Any) -> None:
        self.lister.drop_pod(body)
        self.jobs.add(pod_key(body))

    def volume(self, body: Any) -> None:
        new = self.lister.volumes.see(body)
        for job in self.usage.users(key_of(body)):
            self.jobs.add(job)
        if new:
            self.volumes.add(key_of(body))

    def volume_gone(self, body: Any) -> None:
        self.lister.volumes.drop(body)
        for job in self.usage.users(key_of(body)):
            self.jobs.add(job)
        self.volumes.add(key_of(body))

    def sources(self) -> tuple[Source, ...]:
        """What is watched, for the lists that complete the watch."""
        return (
            Source(names.VOLUME_KIND, self.lister.volumes.see, self.lister.volumes.sweep, self.volumes.add),
            Source(names.KIND, self._listed_job, self.lister.jobs.sweep, self._swept_job),
            Source("Pod", self.lister.see_pod, self.lister.sweep_pods, self.jobs.add, selector=names.LABEL_JOB),
        )

    def _swept_job(self, key: Key) -> None:
        """A job that went while the watch was cut holds its volumes no more."""
        if self.lister.jobs.get(key) is None:
            for volume in self.usage.drop(key):
                self.volumes.add(volume)
        self.jobs.add(key)

    def _listed_job(self, body: Any) -> None:
        self.lister.jobs.see(body)
        self.usage.see(body)


async def start(feed: Feed, sync: Sync, credentials: Credentials, identity: str, namespaces: Sequence[str]) -> set[Any]:
    """Start the watches; returns their tasks, which end only by being cancelled or by a failure."""
    return set(
        await kopf.spawn_tasks(
            registry=registry(feed, sync, credentials),
            settings=kopf_settings(),
            standalone=True,
            # Without one kopf asks the passwd file for the user's name; uid 65532 has none.
            identity=cast(Any, identity),
            clusterwide=not namespaces,
            namespaces=tuple(namespaces),
        )
    )


def registry(feed: Feed, sync: Sync, credentials: Credentials) -> kopf.OperatorRegistry:
    """kopf's handlers: one for each watched kind, and the login."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        token = credentials.token()
        return kopf.ConnectionInfo(
            server=credentials.server,
            ca_data=credentials.ca_data,
            certificate_data=credentials.certificate_data,
            private_key_data=credentials.key_data,
            scheme="Bearer" if token else None,
            token=token or None,
            # A projected token lives an hour and the kubelet renews it at 80 %: log in again before it ends, not after a 401.
            expiration=datetime.now(UTC) + timedelta(minutes=10) if credentials.token_path else None,
        )

    def route(seen: Any, gone: Any) -> Any:
        async def handle(type: str | None, body: kopf.Body, **_: Any) -> None:
            if type is None:
                sync.listed()
            (gone if type == "DELETED" else seen)(body)

        return handle

    for place, seen, gone in (
        ((names.GROUP, names.VERSION, names.PLURAL), feed.job, feed.job_gone),
        ((names.GROUP, names.VERSION, names.VOLUME_PLURAL), feed.volume, feed.volume_gone),
        (("", "v1", "pods"), feed.pod, feed.pod_gone),
    ):
        kopf.on.event(*place, registry=handlers)(route(seen, gone))
    return handlers


def kopf_settings() -> kopf.OperatorSettings:
    """Each setting with its reason."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # our recorder posts on transitions; kopf would post its own log lines
    settings.peering.standalone = True  # the Lease elects, without another CRD
    # The largest saving on a shared cluster: without it every pod of every team streams by.
    settings.watching.label_selectors["", "pods"] = names.LABEL_JOB
    settings.scanning.disabled = True  # no need (and no right) to watch CRDs and namespaces; `Sync.fill` waits for ours
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    # Bookmarks come every minute, so a watch that is silent for longer is a dead connection that nobody closed.
    settings.watching.inactivity_timeout = 70
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    # Nothing of kopf's is ever written to users' objects; if a handler ever did, not under its default prefix.
    settings.persistence.finalizer = f"{names.GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.execution.max_workers = 4
    return settings


class NoDiffBase(kopf.DiffBaseStorage):
    """No memory of what was last handled. kopf asks for it at every event, also where no change handler exists, and its own
    classes copy the whole object for the answer: a quarter of the operator's CPU time in a burst."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""
