"""What the loop remembers between reconciles: refusals, and how often progress is looked at."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock_operator.app import ProgressThrottle
from penstock_operator.runtime.queue import Queue
from penstock_operator.runtime.reconciler import Refusals
from penstock_operator.trainingjob.observe import Refusal

KEY = ("team", "digits")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def body(uid: str = "u", generation: int = 1) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "generation": generation}}


def refused() -> Refusal:
    return Refusal("QuotaExceeded", "pods: 2 of 2 used", NOW + timedelta(seconds=30))


def test_each_refusal_of_one_spec_doubles_the_pause_up_to_sixteenfold() -> None:
    refusals = Refusals()
    pauses = []
    for _ in range(6):
        refusals.add(KEY, body(), refused(), NOW)
        known = refusals.of(KEY, body())
        assert known is not None
        pauses.append((known.until - NOW).total_seconds())
    assert pauses == [30, 60, 120, 240, 480, 480]


def test_a_refusal_of_another_kind_begins_with_its_own_pause() -> None:
    refusals = Refusals()
    for _ in range(5):
        refusals.add(KEY, body(), Refusal("WaitingForPredecessor", "", NOW + timedelta(seconds=1)), NOW)
    refusals.add(KEY, body(), refused(), NOW)
    known = refusals.of(KEY, body())
    assert known is not None
    assert (known.until - NOW).total_seconds() == 30


def test_a_corrected_spec_and_a_new_job_of_the_same_name_are_not_held_back() -> None:
    refusals = Refusals()
    refusals.add(KEY, body(), refused(), NOW)
    assert refusals.of(KEY, body(generation=2)) is None
    assert refusals.of(KEY, body(uid="v")) is None


async def test_progress_is_looked_at_once_in_the_given_time_however_often_it_is_reported() -> None:
    queue, looks = Queue(), 0
    throttle = ProgressThrottle(queue, seconds=0.2)

    async def look() -> None:
        nonlocal looks
        while True:
            queue.done(await queue.take())
            looks += 1

    looking = asyncio.create_task(look())
    begun = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - begun < 1.0:
        throttle.reported(*KEY)
        await asyncio.sleep(0.01)
    looking.cancel()
    passed = asyncio.get_running_loop().time() - begun
    assert 2 <= looks <= passed / 0.2 + 1
