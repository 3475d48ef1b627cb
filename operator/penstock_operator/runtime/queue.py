"""The work queue: every key at most once, never two workers on one key, back-off per key, delayed adds for clocks.

The part of controller-runtime that a Python operator has to bring along. Events add keys; workers take a key, reconcile it and
report `done` (forget its failures, perhaps look again later) or `failed` (come back with exponential back-off and jitter).
A key added while a worker holds it is taken again right after.

There are two levels. What can wait (`add_background`: a first status, while a burst of jobs still waits for its pods) is taken
when nothing else is ready, or when it has waited for `patience` seconds.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

Key = tuple[str, str]
"""(namespace, name)"""


@dataclass(slots=True)
class Queue:
    """Single event loop, no locks: every method but `take` runs to its end at once."""

    backoff_first: float = 0.2
    backoff_max: float = 300.0
    patience: float = 10.0
    jitter: Callable[[], float] = random.random
    _ready: deque[Key] = field(default_factory=deque)
    _waiting: set[Key] = field(default_factory=set)
    _held: dict[Key, float] = field(default_factory=dict)
    _again: set[Key] = field(default_factory=set)
    _failures: dict[Key, int] = field(default_factory=dict)
    _delayed: list[tuple[float, Key]] = field(default_factory=list)
    _due: dict[Key, float] = field(default_factory=dict)
    _background: dict[Key, float] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _added_at: dict[Key, float] = field(default_factory=dict)

    def add(self, key: Key) -> None:
        """Ask for a reconcile soon. A key that waits already is not added twice."""
        if key in self._held:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._added_at[key] = self._now()
            self._ready.append(key)
            self._wake.set()

    def add_background(self, key: Key) -> None:
        """Ask for a reconcile when there is nothing better to do."""
        self._background.setdefault(key, self._now())
        self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for a reconcile after `seconds`. The earliest of several wins: one look serves them all, and it asks anew."""
        due = self._now() + max(0.0, seconds)
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._delayed, (due, key))
            self._wake.set()

    async def take(self) -> Key:
        """The next key; it is the caller's alone until `done` or `failed`."""
        while True:
            self._promote()
            if self._ready:
                key = self._ready.popleft()
                self._waiting.discard(key)
                self._background.pop(key, None)
                self._held[key] = self._now()
                if self._ready:
                    self._wake.set()
                return key
            self._wake.clear()
            timeout = max(0.0, self._delayed[0][0] - self._now()) if self._delayed else None
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def done(self, key: Key, *, again: float | None = None) -> None:
        """The reconcile succeeded; look again after `again` seconds."""
        self._failures.pop(key, None)
        self._release(key)
        if again is not None:
            self.add_after(key, again)

    def failed(self, key: Key) -> float:
        """The reconcile failed; the key comes back after the returned seconds."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(self.backoff_first * 2.0 ** min(count - 1, 20), self.backoff_max) * (0.75 + 0.5 * self.jitter())
        self._again.discard(key)  # a key that fails is not hammered, however many events it gets
        self._release(key)
        self.add_after(key, pause)
        return pause

    def forget(self, key: Key) -> None:
        """The object is gone: drop its clocks."""
        self._failures.pop(key, None)
        self._due.pop(key, None)
        self._background.pop(key, None)

    def depth(self) -> int:
        return len(self._ready)

    def oldest(self) -> float:
        """Seconds the longest-waiting key has waited."""
        return self._now() - min((self._added_at[key] for key in self._waiting), default=self._now())

    def longest_held(self) -> float:
        """Seconds a worker has been busy with one key."""
        return self._now() - min(self._held.values(), default=self._now())

    def _promote(self) -> None:
        now = self._now()
        while self._delayed and self._delayed[0][0] <= now:
            due, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:  # else an entry that an earlier one replaced
                del self._due[key]
                self.add(key)
        while self._background:  # in the order they came
            key, since = next(iter(self._background.items()))
            if self._ready and now - since < self.patience:
                break
            del self._background[key]
            self.add(key)

    def _release(self, key: Key) -> None:
        self._held.pop(key, None)
        self._added_at.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
