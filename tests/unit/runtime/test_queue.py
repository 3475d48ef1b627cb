"""The work queue, on a clock of its own."""

from __future__ import annotations

import asyncio

import pytest

from penstock_operator.runtime.queue import Queue

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(Queue, "_now", staticmethod(lambda: made.now))
    return made


async def taken(queue: Queue) -> tuple[str, str] | None:
    """The next key, or None when there is none right now."""
    try:
        return await asyncio.wait_for(queue.take(), 0.01)
    except TimeoutError:
        return None


async def test_a_key_added_twice_is_taken_once(clock: Clock) -> None:
    queue = Queue()
    queue.add(A)
    queue.add(A)
    assert await taken(queue) == A
    queue.done(A)
    assert await taken(queue) is None


async def test_a_key_is_never_held_twice_and_comes_back_when_it_changed_meanwhile(clock: Clock) -> None:
    queue = Queue()
    queue.add(A)
    assert await taken(queue) == A
    queue.add(A)
    assert await taken(queue) is None
    queue.done(A)
    assert await taken(queue) == A


async def test_failures_back_off_and_success_forgets_them(clock: Clock) -> None:
    queue = Queue(jitter=lambda: 0.5)
    pauses = []
    for _ in range(4):
        queue.add(A)
        assert await taken(queue) == A
        pauses.append(queue.failed(A))
        clock.now += pauses[-1]
    assert pauses == [0.2, 0.4, 0.8, 1.6]
    assert await taken(queue) == A
    queue.done(A)
    queue.add(A)
    await taken(queue)
    assert queue.failed(A) == 0.2


async def test_a_failing_key_is_not_hurried_by_events_that_came_while_it_ran(clock: Clock) -> None:
    queue = Queue(jitter=lambda: 0.5)
    queue.add(A)
    await taken(queue)
    queue.add(A)
    queue.failed(A)
    assert await taken(queue) is None
    clock.now += 0.2
    assert await taken(queue) == A


async def test_the_earliest_of_several_clocks_wins(clock: Clock) -> None:
    queue = Queue()
    queue.add_after(A, 50)
    queue.add_after(A, 10)
    clock.now += 11
    assert await taken(queue) == A
    queue.done(A)
    clock.now += 100
    assert await taken(queue) is None


async def test_background_work_waits_for_ready_keys_but_not_for_ever(clock: Clock) -> None:
    queue = Queue(patience=10)
    queue.add_background(A)
    queue.add(B)
    assert await taken(queue) == B
    assert await taken(queue) == A
    queue.done(A)
    queue.add_background(C)
    queue.add(A)
    clock.now += 11
    assert {await taken(queue), await taken(queue)} == {A, C}


async def test_a_waiting_worker_wakes_when_a_key_comes() -> None:
    queue = Queue()
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(A)
    assert await asyncio.wait_for(waiting, 1) == A


async def test_a_stuck_worker_shows(clock: Clock) -> None:
    queue = Queue()
    queue.add(A)
    await taken(queue)
    clock.now += 200
    assert queue.longest_held() == 200
