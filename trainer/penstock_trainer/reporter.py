"""The background thread: when a report goes out, when it is tried again, when it is given up.

The training thread only sets a flag. One thread, started at the first report, delivers the newest state at most once
each interval; between two deliveries every older state is skipped. After failures the distance doubles up to 30 s.
`close` delivers what is left and waits a bounded time. The thread is a daemon: it never keeps a process alive.

A forked child (a data loader's worker) inherits the object without the thread, so it does nothing there.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable

from penstock_trainer.sender import Outcome, Verdict

log = logging.getLogger("penstock_trainer")

MAX_DISTANCE = 30.0
"""Seconds between attempts at most: an operator that comes back is noticed within half a minute."""
REPLICA_ATTEMPTS = 5
"""New connections tried in a row to find the leader; with two replicas behind a Service one in 32 reports misses."""
PAUSE = 0.2
"""Seconds between attempts that must not wait for the next interval."""


class Reporter:
    """Calls `deliver` in its own thread after `wake`; it returns None when it had nothing new to send. `finish` is
    called in that thread when it ends."""

    def __init__(
        self,
        deliver: Callable[[], Outcome | None],
        finish: Callable[[], None],
        interval: float,
        close_timeout: float,
    ) -> None:
        self._deliver = deliver
        self._finish = finish
        self._interval = interval
        self._close_timeout = close_timeout
        self._process = os.getpid()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = 0.0
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()

    def wake(self) -> None:
        """There is something new. Costs well under a microsecond; called by the training thread at every step."""
        if self._wake.is_set() or os.getpid() != self._process or self._closing.is_set():
            return
        if self._thread is None:
            self._start()
        self._wake.set()

    def close(self) -> None:
        """Deliver the newest state and stop, within the close time-out. Safe to call twice."""
        if os.getpid() != self._process or self._closing.is_set():
            return
        atexit.unregister(self.close)
        self._deadline = time.monotonic() + self._close_timeout
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(self._close_timeout)
            if self._thread.is_alive():
                self.complain("close", f"the last report was not delivered within {self._close_timeout:g} s")

    @property
    def pending(self) -> bool:
        """The newest state waits for its turn; another one now would only replace it."""
        return self._wake.is_set()

    def complain(self, about: str, message: str) -> None:
        """Warn, once for each thing it is about: a training of a million steps must not log a million lines."""
        if about not in self._said:
            self._said.add(about)
            log.warning("progress reports: %s (said once; the training goes on)", message)

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="penstock-progress", daemon=True)
                thread.start()
                self._thread = thread
                # A program that never calls close, or leaves by an exception, still reports its last step.
                atexit.register(self.close)

    def _run(self) -> None:
        failures = 0
        while True:
            self._wake.wait()
            self._wake.clear()
            last = self._closing.is_set()
            outcome = self._attempt(last)
            if last:
                self._finish()
                return
            distance = self._interval
            if outcome is not None and outcome.verdict is Verdict.DELIVERED:
                failures = 0
            elif outcome is not None:
                failures = min(failures + 1, 10)
                distance = max(outcome.wait, min(MAX_DISTANCE, self._interval * 2**failures))
                self._wake.set()
            self._closing.wait(distance)

    def _attempt(self, last: bool) -> Outcome | None:
        """One delivery, with the tries that belong to it. The last delivery is tried until the deadline."""
        attempts = 0
        while True:
            try:
                outcome = self._deliver()
            except Exception as error:
                # A fault of this library; it must not end the thread without a word.
                outcome = Outcome(Verdict.NEVER, f"{type(error).__name__}: {error}")
            attempts += 1
            if outcome is None or outcome.verdict is Verdict.DELIVERED:
                return outcome
            again = outcome.verdict is Verdict.NOT_HERE and attempts < REPLICA_ATTEMPTS
            if last and outcome.verdict is not Verdict.NEVER:
                again = time.monotonic() + PAUSE < self._deadline
            if not again:
                # Keyed by what comes before the details, which may differ each time.
                self.complain(outcome.reason.partition(": ")[0], outcome.reason)
                return outcome
            time.sleep(PAUSE if last or attempts > 1 else 0.0)
