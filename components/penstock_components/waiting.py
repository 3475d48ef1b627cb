"""Waiting for a remote job: ask now and then, log what changed, give up after a deadline or a standstill, stop it on SIGTERM.

`poll` decides nothing about jobs: what is asked, when it is over and what counts as progress are functions of the caller.
Kubernetes ends a pod with SIGTERM and 30 s later with SIGKILL; `stop_on_signal` uses that time to stop the remote job, so that
a cancelled run does not go on costing money. The job of a step that is only evicted goes on. It works in the main thread of the
process that gets the signal, nowhere else.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NamedTuple, TypeVar

from .errors import ComponentError
from .eviction import evicted

log = logging.getLogger(__name__)

State = TypeVar("State")


class Patience(NamedTuple):
    """For how many seconds in a row an error is asked past, and what to look at when they are over."""

    seconds: float
    then: str = ""


FOREVER: Final = Patience(math.inf)  # as long as the wait itself


class Overdue(ComponentError):
    """The deadline passed; the remote job is still there."""


class Standstill(ComponentError):
    """Nothing moved for too long; the remote job is still there."""


class Unanswered(ComponentError):
    """An error that was asked past for as long as it may be; the remote job, if there is one, goes on unseen."""


class Cancelled(BaseException):
    """SIGTERM or SIGINT came. Not an Exception, so that no `except Exception` on the way keeps the process alive."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def poll(
    describe: Callable[[], State],
    until: Callable[[State], bool],
    *,
    every: float,
    deadline: float,
    describe_state: Callable[[State], str],
    standstill: float | None = None,
    progress: Callable[[State], object] | None = None,
    forgive: Callable[[Exception], Patience | None] = lambda error: None,
    age: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    write: Callable[[str], None] = log.info,
) -> State:
    """Call `describe` every `every` seconds until `until(state)`, and return that state.

    `age` is how old the job is already, in seconds: the deadline counts from the job's begin, not from this try's.

    A line is written whenever `describe_state(state)` changes. With `standstill` (seconds) the wait also ends when
    `progress(state)` (default: the described state) has not changed for that long. What `describe` raises goes through, unless
    `forgive(error)` (`aws.patience`) says for how long it is asked past: then it is written and asked again, so that a wait of
    days outlives an outage.

    Raises:
        Overdue: the job is `deadline` seconds old.
        Standstill: no progress for `standstill` seconds.
        Unanswered: the patience with an error is over.
    """
    moved = clock()
    started = moved - age
    line, silence = "never answered", ""
    reached: object = None
    patience, silent = None, started
    while True:
        try:
            state = describe()
        except Exception as error:
            if (given := forgive(error)) is None:
                raise
            if given != patience:
                patience, silent = given, clock()
            if clock() - silent >= given.seconds:
                raise Unanswered(f"no answer for {_clock(clock() - silent)}: {error}; {given.then}") from error
            write(f"[{_clock(clock() - started)}] no answer, asking again: {error}")
            silence = f"; the last answer: {error}"
        else:
            patience, silence = None, ""
            if describe_state(state) != line:
                line = describe_state(state)
                write(f"[{_clock(clock() - started)}] {line}")
            if until(state):
                return state
            mark = line if progress is None else progress(state)
            if mark != reached:
                reached, moved = mark, clock()
        now = clock()
        if standstill is not None and now - moved >= standstill:
            raise Standstill(f"no progress for {_clock(now - moved)}: {line}{silence}")
        left = deadline - (now - started)
        if left <= 0:
            raise Overdue(f"not done after {_clock(deadline)}: {line}{silence}")
        sleep(min(every, left))


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Inside the block SIGTERM and SIGINT end the work: `stop()` is called once, then the process exits with 128 + signal.

    A step whose own pod is evicted stops nothing: its next try goes on with the remote job.
    `stop` must be safe to call whether or not the remote job was created yet. What it raises is logged, not raised. Outside the
    main thread Python delivers no signals: the block then runs without this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def cancel(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # a second signal must not interrupt the stopping
        raise Cancelled(number)

    before = {each: signal.signal(each, cancel) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except Cancelled as cancelled:
        try:
            if evicted():
                log.warning("%s: this pod is evicted; the remote job goes on, and the next try of the step with it", cancelled)
            else:
                log.warning("%s: stopping the remote job", cancelled)
                stop()
        except Exception:
            log.exception("the remote job could not be stopped; stop it by hand")
        raise SystemExit(128 + cancelled.number) from cancelled
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
