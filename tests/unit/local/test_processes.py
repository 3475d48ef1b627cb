"""Background processes are found again, told apart and ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_local.processes import Daemon, alive, search_path, start_time, with_environment


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path, "sleeper")
    yield made
    made.stop(kill=True)


def test_a_second_start_finds_the_running_process(daemon: Daemon, tmp_path: Path) -> None:
    pid = daemon.start(["sleep", "60"])
    assert daemon.start(["sleep", "60"]) == pid
    assert Daemon(tmp_path, "sleeper").pid() == pid


def test_a_stopped_process_is_gone_and_can_be_started_again(daemon: Daemon) -> None:
    pid = daemon.start(["sleep", "60"])
    daemon.stop()
    assert daemon.pid() is None
    assert start_time(pid) is None
    assert daemon.start(["sleep", "60"]) != pid


def test_a_pid_that_is_somebody_elses_now_is_not_taken_for_it(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start(["sleep", "60"])
    file = tmp_path / "pid" / "sleeper"
    kept = file.read_text()
    file.write_text(f"{os.getpid()} 1")
    assert daemon.pid() is None
    daemon.stop(kill=True)  # must not end this very process
    file.write_text(kept)


def test_a_process_that_ignores_sigterm_is_killed(daemon: Daemon) -> None:
    pid = daemon.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
    deadline = time.monotonic() + 5
    while "ready" not in daemon.tail():
        assert time.monotonic() < deadline, daemon.tail()
    daemon.stop(seconds=0.1)
    assert not alive(pid)


def test_what_it_says_is_in_its_log(daemon: Daemon) -> None:
    pid = daemon.start(["sh", "-c", "echo one; echo two >&2"])
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline, daemon.tail()
    assert daemon.tail() == "one\ntwo"


def test_processes_are_found_by_a_mark_in_their_environment(daemon: Daemon, tmp_path: Path) -> None:
    pid = daemon.start(["sleep", "60"], environment={"PENSTOCK_TEST": str(tmp_path)})
    deadline = time.monotonic() + 5
    while pid not in with_environment(f"PENSTOCK_TEST={tmp_path}"):
        assert time.monotonic() < deadline, Path(f"/proc/{pid}/environ").read_bytes()
    assert pid not in with_environment(f"PENSTOCK_TEST={tmp_path}/other")


def test_system_programs_are_found_with_a_plain_users_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert search_path() == "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
