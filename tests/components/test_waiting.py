"""Waiting for remote jobs, with a clock that only moves when the waiting sleeps, and with real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any

import pytest

from penstock_components import waiting
from penstock_components.errors import ComponentError


class Clock:
    """Time that moves by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def send(number: signal.Signals) -> None:
    """To this process; does not return before it is handled."""
    os.kill(os.getpid(), number)
    time.sleep(10)


def poll(answers: Iterable[int | Exception], clock: Clock, written: list[str], **settings: Any) -> int:
    """Wait for 9; an answer that is an error is raised."""
    coming = iter(answers)

    def describe() -> int:
        answer = next(coming)
        if isinstance(answer, Exception):
            raise answer
        return answer

    wanted = {"every": 10.0, "deadline": 100.0, **settings}
    return waiting.poll(
        describe,
        until=lambda state: state == 9,
        describe_state=lambda state: f"state {state}",
        clock=clock,
        sleep=clock.sleep,
        write=written.append,
        **wanted,
    )


def test_the_wait_ends_with_the_state_that_was_waited_for() -> None:
    clock, written = Clock(), list[str]()
    assert poll(iter([1, 1, 2, 9]), clock, written) == 9
    assert clock.now == 30
    assert written == ["[0:00:00] state 1", "[0:00:20] state 2", "[0:00:30] state 9"]


def test_the_deadline_is_kept_to_the_second_and_asked_a_last_time() -> None:
    clock = Clock()
    with pytest.raises(waiting.Overdue, match="not done after 0:01:35: state 1"):
        poll(iter([1] * 99), clock, [], deadline=95.0)
    assert clock.now == 95


def test_the_deadline_counts_from_the_jobs_begin_and_a_standstill_from_this_try() -> None:
    clock, written = Clock(), list[str]()
    with pytest.raises(waiting.Overdue, match="not done after 0:01:40: state 1"):
        poll(iter([1] * 20), clock, written, age=70.0, standstill=50.0)
    assert (clock.now, written) == (30, ["[0:01:10] state 1"])
    assert poll(iter([9]), clock, written, age=200.0) == 9
    with pytest.raises(waiting.Standstill):
        poll(iter([1] * 20), clock, written, age=20.0, standstill=50.0)


def test_a_standstill_counts_from_the_last_progress() -> None:
    clock = Clock()
    with pytest.raises(waiting.Standstill, match="no progress for 0:00:30: state 2"):
        poll(iter([1, 1, 2, 2, 2, 2, 2]), clock, [], standstill=30.0)
    assert clock.now == 50


def forgiving(error: Exception) -> waiting.Patience | None:
    return waiting.FOREVER if isinstance(error, ConnectionError) else None


def test_an_outage_is_forgiven_and_another_error_is_not() -> None:
    clock, written = Clock(), list[str]()
    assert poll([1, ConnectionError("lost"), 9], clock, written, forgive=forgiving) == 9
    assert "[0:00:10] no answer, asking again: lost" in written
    with pytest.raises(KeyError):
        poll([KeyError("bug")], clock, written, forgive=forgiving)


def test_an_outage_that_lasts_ends_at_the_deadline() -> None:
    lost = repeat(ConnectionError("lost"))
    with pytest.raises(waiting.Overdue, match="not done after 0:00:50: never answered; the last answer: lost"):
        poll(lost, Clock(), [], deadline=50, forgive=forgiving)


def test_an_outage_that_lasts_is_told_by_a_standstill_too() -> None:
    lost = repeat(ConnectionError("lost"))
    with pytest.raises(waiting.Standstill, match="no progress for 0:00:30: state 2; the last answer: lost"):
        poll(chain([1, 2], lost), Clock(), [], standstill=30, forgive=forgiving)


def test_an_error_that_may_last_only_so_long_in_a_row_ends_the_wait_with_what_to_look_at() -> None:
    clock = Clock()
    refused = PermissionError("refused")
    answers = [refused, refused, 1, refused, ConnectionError("lost"), *[refused] * 99]

    def patience(error: Exception) -> waiting.Patience:
        return waiting.Patience(30, "look at the role") if error is refused else waiting.FOREVER

    with pytest.raises(waiting.Unanswered, match="no answer for 0:00:30: refused; look at the role") as end:
        poll(answers, clock, [], deadline=1000, forgive=patience)
    assert end.value.__cause__ is refused
    assert clock.now == 80, "an answer, or another error, between them counts anew"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job_once_and_ends_the_process(number: signal.Signals) -> None:
    stopped: list[str] = []

    def stop() -> None:
        stopped.append("job")
        os.kill(os.getpid(), number)  # a second signal meanwhile must not break the stopping

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end, waiting.stop_on_signal(stop):
        send(number)
    assert end.value.code == 128 + number
    assert stopped == ["job"]
    assert signal.getsignal(number) is before


def test_the_process_ends_even_where_the_job_cannot_be_stopped() -> None:
    def stop() -> None:
        raise ComponentError("no permission")

    with pytest.raises(SystemExit), waiting.stop_on_signal(stop):
        send(signal.SIGTERM)


def test_without_a_signal_nothing_is_stopped_and_errors_go_through() -> None:
    stopped: list[str] = []
    with pytest.raises(KeyError), waiting.stop_on_signal(lambda: stopped.append("job")):
        raise KeyError
    assert stopped == []


def test_outside_the_main_thread_the_block_just_runs() -> None:
    ran: list[bool] = []

    def work() -> None:
        with waiting.stop_on_signal(lambda: None):
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert ran == [True]


def test_sigterm_reaches_through_a_sleep_in_a_process_of_its_own() -> None:
    program = """
import time
from penstock_components import waiting
with waiting.stop_on_signal(lambda: print("stopped", flush=True)):
    print("ready", flush=True)
    waiting.poll(lambda: 1, until=lambda s: False, every=600, deadline=6000, describe_state=str)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (143, "stopped\n"), err
