"""Dynamic batching: requests that wait while an inference runs are run together as the next one.

A request that comes while nothing runs starts at once. When several requests shared the last batch, the next waits up to
`delay` after it for as many to come back, since clients that wait for answers all come back together and the first would
otherwise run alone. One thread runs the model, so the event loop never does; what runs cannot be cancelled, what waits can.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock_serving.errors import RequestError
from penstock_serving.tensors import Array

Run = Callable[[Array], Array]


@dataclass(slots=True, eq=False)
class _Waiting:
    rows: Array
    answer: asyncio.Future[Array]


class InferenceThread:
    """One thread that calls functions in turn. A daemon: a process that must stop does not wait for an endless one."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="inference", daemon=True).start()

    def call(self, function: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """Call `function` there, then `done` with its result or exception in the caller's event loop."""
        loop = asyncio.get_running_loop()

        def work() -> None:
            result, error = None, None
            try:
                result = function()
            except BaseException as caught:
                error = caught
            loop.call_soon_threadsafe(done, result, error)

        self._calls.put(work)

    def _work(self) -> None:
        while True:
            self._calls.get()()


class Batcher:
    """Gathers rows of one shape into calls of `run` with at most `max_rows` rows."""

    def __init__(
        self,
        run: Run,
        thread: InferenceThread,
        *,
        max_rows: int,
        delay_seconds: float,
        max_waiting: int,
        observe: Callable[[int, int], None],
    ) -> None:
        """`observe` is told the rows and the requests of every batch."""
        self._run, self._thread, self._observe = run, thread, observe
        self._max_rows, self._delay, self._max_waiting = max_rows, delay_seconds, max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._running_since: float | None = None
        self._start_at: asyncio.TimerHandle | asyncio.Handle | None = None
        self._expected = 1
        self._last_end = -1e9

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def running_seconds(self) -> float:
        """How long the present inference has been running; 0 where none is."""
        return 0.0 if self._running_since is None else time.monotonic() - self._running_since

    async def submit(self, rows: Array) -> Array:
        """The model's answer to `rows`, row by row.

        Raises:
            RequestError: 503, the queue is full; 500, the model failed on these rows.
        """
        if len(self._waiting) >= self._max_waiting:
            raise RequestError(503, f"{self._max_waiting} requests are waiting already; try again", retry_after=1)
        loop = asyncio.get_running_loop()
        mine = _Waiting(rows, loop.create_future())
        self._waiting.append(mine)
        self._plan(loop)
        try:
            return await mine.answer
        except asyncio.CancelledError:
            # Out of time, or the client is gone: free its place.
            if mine in self._waiting:
                self._waiting.remove(mine)
            raise

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the next batch now, or when its time has come."""
        if self._running_since is not None or not self._waiting:
            return
        begin = self._last_end + self._delay if len(self._waiting) < self._expected else 0.0
        if self._start_at is not None:
            if begin > 0.0:
                return
            self._start_at.cancel()
        # The next round of the loop, not this moment: requests that were read together run together.
        self._start_at = loop.call_at(begin, self._start) if begin > loop.time() else loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_at = None
        if not self._waiting:
            return
        batch = [self._waiting.popleft()]
        rows = len(batch[0].rows)
        while self._waiting and rows + len(self._waiting[0].rows) <= self._max_rows:
            rows += len(self._waiting[0].rows)
            batch.append(self._waiting.popleft())
        self._running_since = time.monotonic()
        self._observe(rows, len(batch))

        def done(answers: Any, error: BaseException | None) -> None:
            self._finish(batch, answers, error)

        self._thread.call(lambda: _answers(self._run, [each.rows for each in batch], self._max_rows), done)

    def _finish(self, batch: list[_Waiting], answers: list[Array | Exception] | None, error: BaseException | None) -> None:
        loop = asyncio.get_running_loop()
        self._running_since, self._last_end, self._expected = None, loop.time(), len(batch)
        for number, waiting in enumerate(batch):
            if waiting.answer.done():
                continue
            answer = answers[number] if answers is not None else error
            if isinstance(answer, np.ndarray):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(RequestError(500, f"the model failed: {_first_line(answer)}"))
        self._plan(loop)


def _answers(run: Run, batch: list[Array], max_rows: int) -> list[Array | Exception]:
    """One answer for each. When a shared batch fails, each is run alone, so that only the culprit's request fails."""
    try:
        if len(batch) == 1:
            slices = [batch[0][begin : begin + max_rows] for begin in range(0, len(batch[0]), max_rows)]
            return [run(slices[0]) if len(slices) == 1 else np.concatenate([run(each) for each in slices])]
        together = run(np.concatenate(batch))
    except Exception as error:
        return [error] if len(batch) == 1 else [_answers(run, [each], max_rows)[0] for each in batch]
    return list(np.split(together, np.cumsum([len(rows) for rows in batch])[:-1]))


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
