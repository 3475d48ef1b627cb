"""Wiring: kopf as the watch layer, and the parts of the operator put together. The only module that imports kopf.

    watch event -> cache (memory) -> queue.add(key) -> worker: observe, plan, act -> status

kopf's `on.event` handlers neither write to the object nor add finalizers, and cost one call an event; its change handlers would
keep a copy of every spec in an annotation and know nothing of the children (docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf

from penstock_operator import credentials as credentials_module
from penstock_operator import names
from penstock_operator.cloud import catalogue
from penstock_operator.cloud.catalogue import Catalogue
from penstock_operator.credentials import Credentials
from penstock_operator.kube import ApiError, ApiUnreachable, Kube
from penstock_operator.runtime import http, operator_key
from penstock_operator.runtime.act import Actor
from penstock_operator.runtime.lease import Elector
from penstock_operator.runtime.lister import Lister, pod_key
from penstock_operator.runtime.metrics import Metrics
from penstock_operator.runtime.progress import ProgressStore
from penstock_operator.runtime.progress import routes as progress_routes
from penstock_operator.runtime.queue import Key, Queue
from penstock_operator.runtime.reconciler import Reconciler
from penstock_operator.runtime.recorder import Recorder
from penstock_operator.runtime.sync import Source, Sync
from penstock_operator.settings import Settings
from penstock_operator.trainingjob.children.common import Surroundings
from penstock_operator.trainingjob.verdict import Rules

log = logging.getLogger("penstock")


async def run(settings: Settings) -> None:
    """Run the operator until SIGTERM, SIGINT or the loss of the Lease (which raises)."""
    types = catalogue.load(settings.instance_types_file, huge_pages=settings.efa_huge_pages)
    credentials = credentials_module.load()
    stop = asyncio.Event()
    _on_signals(stop)
    async with Kube(credentials, connections=settings.api_connections, timeout=settings.request_timeout) as kube:
        stopping = asyncio.create_task(stop.wait())
        serving = asyncio.create_task(_serve(settings, types, credentials, kube, stop))
        done, _ = await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        if serving not in done:
            log.info("stopping")
            try:
                async with asyncio.timeout(20):
                    await serving
            except TimeoutError:
                log.warning("not everything stopped within 20 s")
        stopping.cancel()
        if serving.done() and not serving.cancelled():
            serving.result()


async def _serve(settings: Settings, types: Catalogue, credentials: Credentials, kube: Kube, stop: asyncio.Event) -> None:
    queue, lister, store = Queue(), Lister(), ProgressStore()
    key: bytes | None = None
    elector = Elector(kube, settings.namespace, settings.pod_name, settings.lease_seconds, settings.lease_renew_seconds)

    def leading() -> bool:
        return elector.leading or not settings.leader_election

    metrics = Metrics(
        queue_depth=queue.depth,
        queue_oldest=queue.oldest,
        requests=kube.requests,
        phases=lambda: _phases(lister),
        is_leader=leading,
    )
    throttle = ProgressThrottle(queue, settings.progress_write_seconds)
    runner = await http.serve(
        settings.listen_host,
        settings.listen_port,
        stuck=lambda: max(queue.longest_held(), queue.oldest()),
        ready=lambda: key is not None,
        metrics=metrics.text,
        routes=progress_routes(store, lambda: key, throttle.reported, leading),
    )
    try:
        key = await _unless(stop, _operator_key(kube, settings.namespace))
        if key is None:
            return
        if settings.leader_election and await _unless(stop, _acquired(elector)) is None:
            return
        recorder = Recorder(kube, settings.pod_name, busy=lambda: queue.depth() > 0)
        reconciler = Reconciler(
            queue=queue,
            lister=lister,
            actor=Actor(kube, lister, recorder, timedelta(seconds=settings.refusal_retry_seconds)),
            rules=rules(settings, types, key),
            progress=store,
            metrics=metrics,
            resync_seconds=settings.resync_seconds,
        )
        sync = Sync(kube, settings.watch_namespaces, sources(queue, lister))
        await _lead(settings, credentials, queue, lister, sync, reconciler, recorder, elector, stop)
    finally:
        await elector.release()
        await runner.cleanup()


async def _lead(
    settings: Settings,
    credentials: Credentials,
    queue: Queue,
    lister: Lister,
    sync: Sync,
    reconciler: Reconciler,
    recorder: Recorder,
    elector: Elector,
    stop: asyncio.Event,
) -> None:
    """Watch and reconcile until told to stop. Any part that ends by itself ends the process: a half-alive operator is worse."""
    if await _unless(stop, _filled(sync)) is None:
        return
    watches = await kopf.spawn_tasks(
        registry=registry(queue, lister, sync, credentials),
        settings=kopf_settings(),
        standalone=True,
        # Without one kopf asks the passwd file for the user's name; uid 65532 has none.
        identity=cast(Any, settings.pod_name),
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
    )
    _on_signals(stop)  # kopf has put its own handlers in place of ours
    acting = {
        asyncio.create_task(recorder.run(), name="events"),
        asyncio.create_task(reconciler.resync(sync.sweep), name="resync"),
        asyncio.create_task(sync.run(), name="sweep"),
        *(asyncio.create_task(reconciler.work(), name=f"worker-{number}") for number in range(settings.workers)),
    }
    if settings.leader_election:
        acting.add(asyncio.create_task(elector.keep(), name="lease"))
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait({stopping, *acting, *watches}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if stopping not in done:
            raise RuntimeError(f"{', '.join(task.get_name() for task in done)} ended by itself")
    finally:
        # Who acts goes first: the Lease may be another's already. kopf's own way to stop (run_tasks) would wait 5 s for
        # every task of this process, also for those that are not its own.
        for tasks in ({stopping, *acting}, set(watches)):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=5)


def sources(queue: Queue, lister: Lister) -> tuple[Source, ...]:
    """What is watched, as the caches see it."""
    return (
        Source(names.KIND, lister.see_job, lister.sweep_jobs, queue.add),
        Source("Pod", lister.see_pod, lister.sweep_pods, queue.add, selector=names.LABEL_JOB),
    )


def registry(queue: Queue, lister: Lister, sync: Sync, credentials: Credentials) -> kopf.OperatorRegistry:
    """kopf's handlers: two event handlers that only fill the caches and add keys, and the login."""
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

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=handlers)
    async def job_event(type: str | None, body: kopf.Body, namespace: str | None, name: str, **_: Any) -> None:
        if type is None:
            sync.listed()
        if type == "DELETED":
            lister.drop_job(body)
            queue.add((namespace or "", name))
        elif lister.see_job(body):
            queue.add((namespace or "", name))

    @kopf.on.event("", "v1", "pods", registry=handlers)
    async def pod_event(type: str | None, body: kopf.Body, **_: Any) -> None:
        if type is None:
            sync.listed()
        if type == "DELETED":
            lister.drop_pod(body)
            queue.add(pod_key(body))
        elif lister.see_pod(body):
            queue.add(pod_key(body))

    return handlers


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


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


def rules(settings: Settings, types: Catalogue, key: bytes) -> Rules:
    """The settings that decisions depend on."""
    return Rules(
        surroundings=Surroundings(operator_key=key, service_url=settings.service_url, network_policy=settings.network_policy),
        catalogue=types,
        startup_error=timedelta(seconds=settings.startup_error_seconds),
        worker_ready=timedelta(seconds=settings.worker_ready_seconds),
        settle=timedelta(seconds=settings.settle_seconds),
        backoff=timedelta(seconds=settings.restart_backoff_seconds),
        backoff_max=timedelta(seconds=settings.restart_backoff_max_seconds),
        infrastructure_limit=settings.infrastructure_restart_limit,
    )


class ProgressThrottle:
    """Turns reports into reconciles, each job at most once in `seconds`: a report a second is not a write a second."""

    def __init__(self, queue: Queue, seconds: float) -> None:
        self._queue, self._seconds = queue, seconds
        self._next: dict[Key, float] = {}

    def reported(self, namespace: str, name: str) -> None:
        now, key = asyncio.get_running_loop().time(), (namespace, name)
        due = max(now, self._next.get(key, 0.0))
        if due - now >= self._seconds:
            return  # a look is scheduled already, and will find this report
        self._next[key] = due + self._seconds
        self._queue.add_after(key, due - now)
        if len(self._next) > 4096:
            self._next = {key: at for key, at in self._next.items() if at > now}


def _phases(lister: Lister) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for key in lister.known():
        if (job := lister.job(key)) is not None:
            counts[key[0], job["status"].get("phase") or "Pending"] += 1
    return counts


async def _operator_key(kube: Kube, namespace: str) -> bytes:
    while True:
        try:
            return await operator_key.load_or_create(kube, namespace)
        except (ApiError, ApiUnreachable) as error:
            log.warning("the operator's key cannot be read yet: %s; trying again", error)
            await asyncio.sleep(1.0)


async def _acquired(elector: Elector) -> bool:
    await elector.acquire()
    return True


async def _filled(sync: Sync) -> bool:
    await sync.fill()
    return True


async def _unless(stop: asyncio.Event, work: Any) -> Any:
    """The result of `work`, or None when the stop came first."""
    task, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        return None
    return task.result()
