"""Wiring: the parts of the operator put together.

    watch event -> cache (memory) -> queue.add(key) -> worker: observe, plan, act -> status

Read this top to bottom to see what runs; watch.py for what enters, runtime/loop.py for what takes keys.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Set
from datetime import timedelta
from typing import Any

from penstock_operator import credentials as credentials_module
from penstock_operator import watch
from penstock_operator.cloud import catalogue
from penstock_operator.cloud.catalogue import Catalogue
from penstock_operator.credentials import Credentials
from penstock_operator.kube import ApiError, ApiUnreachable, Kube
from penstock_operator.lustrevolume.verdict import Rules as VolumeRules
from penstock_operator.runtime import http, loop, operator_key
from penstock_operator.runtime.act import Actor
from penstock_operator.runtime.lease import Elector
from penstock_operator.runtime.lister import Lister
from penstock_operator.runtime.metrics import Metrics
from penstock_operator.runtime.progress import ProgressStore
from penstock_operator.runtime.progress import routes as progress_routes
from penstock_operator.runtime.queue import Key, Queue
from penstock_operator.runtime.reconciler import Reconciler
from penstock_operator.runtime.recorder import Recorder
from penstock_operator.runtime.sync import Sync
from penstock_operator.runtime.usage import Usage
from penstock_operator.runtime.volumes import VolumeReconciler
from penstock_operator.runtime.warnings import Warnings
from penstock_operator.settings import Settings
from penstock_operator.trainingjob.children.common import Surroundings
from penstock_operator.trainingjob.verdict import Rules
from penstock_operator.watch import Feed

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
    jobs, volumes, lister, usage, store = Queue(), Queue(), Lister(), Usage(), ProgressStore()
    key: bytes | None = None
    keeping: set[asyncio.Task[None]] = set()
    elector = Elector(kube, settings.namespace, settings.pod_name, settings.lease_seconds, settings.lease_renew_seconds)

    def leading() -> bool:
        return elector.leading or not settings.leader_election

    metrics = Metrics(
        queue_depth=lambda: jobs.depth() + volumes.depth(),
        queue_oldest=lambda: max(jobs.oldest(), volumes.oldest()),
        requests=kube.requests,
        phases=lambda: _phases(lister),
        is_leader=leading,
    )
    throttle = ProgressThrottle(jobs, settings.progress_write_seconds)
    runner = await http.serve(
        settings.listen_host,
        settings.listen_port,
        # Volumes wait in their queue while AWS does not answer, and a restart would not help them.
        stuck=lambda: max(jobs.longest_held(), jobs.oldest(), volumes.longest_held()),
        ready=lambda: key is not None,
        metrics=metrics.text,
        routes=progress_routes(store, lambda: key, throttle.reported, leading),
    )
    try:
        key = await _unless(stop, _operator_key(kube, settings.namespace))
        if key is None:
            return
        if settings.leader_election:
            if await _unless(stop, _acquired(elector)) is None:
                return
            keeping = {asyncio.create_task(elector.keep(), name="lease")}
        feed = Feed(lister, usage, jobs, volumes)
        sync = Sync(kube, settings.watch_namespaces, feed.sources(), settings.sweep_seconds)
        # The Lease is kept meanwhile: a large cluster takes longer than the Lease lasts.
        if await _unless(stop, _filled(sync), keeping) is None:
            return
        recorder = Recorder(kube, settings.pod_name, busy=lambda: jobs.depth() > 0)
        reconcile_job = Reconciler(
            queue=jobs,
            lister=lister,
            actor=Actor(kube, lister, recorder, timedelta(seconds=settings.refusal_retry_seconds)),
            rules=rules(settings, types, key),
            progress=store,
            warnings=Warnings(kube),
        ).reconcile
        volume_reconciler = VolumeReconciler(kube, lister, usage, recorder, volume_rules(settings), settings.watch_namespaces)
        queues = ((jobs, lister.jobs.known), (volumes, lister.volumes.known))
        acting = {
            "events": recorder.run(),
            "sweep": sync.run(),
            "resync": loop.resync(settings.resync_seconds, (volume_reconciler.sweep,), queues),
            **{f"job-{n}": loop.work(jobs, reconcile_job, metrics, "trainingjob") for n in range(settings.workers)},
            **{
                f"volume-{n}": loop.work(volumes, volume_reconciler.reconcile, metrics, "lustrevolume")
                for n in range(settings.volume_workers)
            },
        }
        watches = await watch.start(feed, sync, credentials, settings.pod_name, settings.watch_namespaces)
        _on_signals(stop)  # kopf has put its own handlers in place of ours
        running = {asyncio.create_task(part, name=name) for name, part in acting.items()}
        await _until_stopped(stop, keeping | running, watches)
    finally:
        for task in keeping:
            task.cancel()
        await elector.release()
        await runner.cleanup()


async def _until_stopped(stop: asyncio.Event, acting: set[asyncio.Task[None]], watches: set[Any]) -> None:
    """Run until told to stop. Any part that ends by itself ends the process: a half-alive operator is worse."""
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
        for tasks in ({stopping, *acting}, watches):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=5)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


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


def volume_rules(settings: Settings) -> VolumeRules:
    return VolumeRules(
        poll=timedelta(seconds=settings.volume_poll_seconds), retry=timedelta(seconds=settings.volume_retry_seconds)
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
    for key in lister.jobs.known():
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


async def _unless(stop: asyncio.Event, work: Any, keeping: Set[asyncio.Task[None]] = frozenset()) -> Any:
    """The result of `work`, or None when the stop came first. What `keeping` raises meanwhile is raised."""
    task, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({task, stopping, *keeping}, return_when=asyncio.FIRST_COMPLETED)
        for kept in done & keeping:
            kept.result()
        return task.result() if task in done else None
    finally:
        stopping.cancel()
        task.cancel()
