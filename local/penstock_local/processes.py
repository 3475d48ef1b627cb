"""Background processes that outlive this one: started detached, found again by pid and start time, stopped by signal.

A pid file holds `pid start-time`; the start time tells a reused pid apart, so nobody else's process is ever signalled.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class Daemon:
    """One named background process with a log and a pid file in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / "log" / f"{name}.log"
        self._pid_file = folder / "pid" / name

    def start(
        self, command: Sequence[str | Path], *, environment: dict[str, str] | None = None, die_with_parent: bool = False
    ) -> int:
        """Start it unless it runs. `die_with_parent`: the kernel kills it when this process ends in whatever way."""
        if (running := self.pid()) is not None:
            return running
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent if die_with_parent else None,
            )
        self._pid_file.write_text(f"{process.pid} {start_time(process.pid) or 0}")
        return process.pid

    def pid(self) -> int | None:
        """Its pid while it runs."""
        try:
            pid, started = (int(part) for part in self._pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if started and start_time(pid) == started else None

    def stop(self, *, seconds: float = 5.0, kill: bool = False) -> None:
        """SIGTERM, then SIGKILL after `seconds`; `kill`: SIGKILL at once."""
        pid = self.pid()
        if pid is not None:
            end(pid, seconds=0 if kill else seconds)
        self._pid_file.unlink(missing_ok=True)

    def tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def end(pid: int, *, seconds: float) -> None:
    """End a process and wait until it is gone."""
    deadline = time.monotonic() + seconds
    try:
        if seconds > 0:
            os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline and alive(pid):
            time.sleep(0.02)
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
            while alive(pid):
                time.sleep(0.02)
    except ProcessLookupError:
        pass


def alive(pid: int) -> bool:
    """Running, and not a zombie (a child of ours is reaped here)."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return start_time(pid) is not None


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the process began; None when there is none (or only its zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def resident_mib(pid: int) -> float:
    """Resident memory in MiB."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
