"""Background processes that outlive this one: started detached, found again by pid and start time, stopped by signal.

A pid file holds `pid start-time`; the start time tells a reused pid apart, so nobody else's process is ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

# containerd looks for runc, and CNI plugins for nft, where a plain user's PATH does not go.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Daemon:
    """One named background process with a log and a pid file in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / "log" / f"{name}.log"
        self._pid_file = folder / "pid" / name

    def start(
        self, command: Sequence[str | Path], *, environment: dict[str, str] | None = None, die_with_parent: bool = False
    ) -> int:
        """Start it unless it runs.

        `die_with_parent`: the kernel kills it when the calling thread ends in whatever way, so call from the main thread.
        """
        if (running := self.pid()) is not None:
            return running
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        words = [*(["setpriv", "--pdeathsig", "KILL"] if die_with_parent else []), *map(str, command)]
        # Not Popen: it would warn about every process that is meant to outlive its handle.
        pid = os.posix_spawnp(
            words[0],
            words,
            {**os.environ, "PATH": search_path(), **(environment or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGINT],
        )
        self._pid_file.write_text(f"{pid} {start_time(pid) or 0}")
        return pid

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
    with contextlib.suppress(ChildProcessError):
        # A killed process whose first thread is gone looks like a zombie while its other threads still hold its sockets.
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
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


def search_path() -> str:
    """PATH with the folders of system programs at its end."""
    found = os.environ.get("PATH", os.defpath).split(":")
    return ":".join([*found, *(one for one in _SYSTEM_FOLDERS if one not in found)])


def with_environment(entry: str) -> list[int]:
    """Processes that were started with this `NAME=value` in their environment, or whose ancestors were."""
    found, wanted = [], entry.encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found
