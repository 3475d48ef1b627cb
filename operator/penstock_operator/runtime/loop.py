"""The loops around reconciles: workers over a queue, and the resync.

Failures never leave a worker: an API error or a bug brings the key back with back-off, is counted and logged once with its
cause, and the other keys go on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable

from penstock_operator.cloud.fsx import CloudError
from penstock_operator.kube import ApiError, ApiUnreachable
from penstock_operator.runtime.metrics import Metrics
from penstock_operator.runtime.queue import Key, Queue

log = logging.getLogger("penstock.reconciler")

Reconcile = Callable[[Key], Awaitable[float | None]]
"""Brings one key forward; returns the seconds after which a clock needs another look, or None."""


async def work(queue: Queue, reconcile: Reconcile, metrics: Metrics, controller: str) -> None:
    """One worker; run as many as should reconcile at once."""
    while True:
        key = await queue.take()
        try:
            with metrics.reconcile(controller):
                again = await reconcile(key)
        except (ApiError, ApiUnreachable, CloudError) as error:
            pause = queue.failed(key)
            conflict = isinstance(error, ApiError) and error.reason == "Conflict"
            level = logging.DEBUG if conflict else logging.WARNING
            log.log(level, "%s; again in %.1f s", error, pause, extra={controller: "/".join(key)})
        except asyncio.CancelledError:
            raise
        except Exception:
            pause = queue.failed(key)
            log.exception("a bug in the operator; again in %.1f s", pause, extra={controller: "/".join(key)})
        else:
            queue.done(key, again=again)


async def resync(
    seconds: float, sweeps: Iterable[Callable[[], Awaitable[None]]], known: Iterable[tuple[Queue, Callable[[], list[Key]]]]
) -> None:
    """Sweep the caches and add every key now and then, spread over time: heals whatever an event did not tell."""
    sweeps, known = list(sweeps), list(known)
    while True:
        await asyncio.sleep(seconds)
        for sweep in sweeps:
            try:
                await sweep()
            except (ApiError, ApiUnreachable) as error:
                log.warning("resync: %s; next time", error)
        for queue, keys in known:
            for key in keys():
                queue.add_after(key, random.uniform(0, seconds * 0.2))
