"""A "machine" of a cluster: mount, network and UTS namespaces held by a sleeping process.

`nsenter` on the holder's pid, not `ip netns exec`, which would hide the cgroup mounts from the kubelet. Inside, /run, /var/log
and /var/lib are the machine's own: kubelets write to fixed paths there (device plugins, CNI results), and those of two nodes
must neither meet nor leave anything on the host. So a hostPath volume under /var/lib shows the node's folder, not the host's.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from penstock_local import paths
from penstock_local.errors import LocalError
from penstock_local.processes import Daemon, with_environment

MARK = "PENSTOCK_MACHINE"
_VAR_LIB = Path("/var/lib")


class Machine:
    """One set of namespaces, with its folder for state, logs and pid files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.holder = Daemon(folder, "holder")
        self._prepared = folder / "prepared"
        self._mark = {MARK: str(folder)}

    def create(self) -> bool:
        """Make the namespaces; False when they are there already.

        A holder that died, or was left before its mounts were made, takes all that still lives beside it along.
        """
        pid = self.holder.pid()
        if pid is not None and self._prepared.exists() and self._prepared.read_text() == str(pid):
            return False
        self.destroy()
        for part in ("varlog/pods", "varlog/containers", "kubelet"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        command = ["unshare", "--mount", "--net", "--uts", "--propagation", "private", "sleep", "infinity"]
        pid = self.holder.start(command, environment=self._mark)
        deadline = time.monotonic() + 5
        while not _is_sleeping(pid):
            if time.monotonic() > deadline or self.holder.pid() is None:
                raise LocalError(f"no namespaces for {self.name}: {self.holder.tail() or 'unshare did not answer'}")
            time.sleep(0.01)
        needed = (paths.state(), paths.cache(), paths.checkout(), Path(sys.prefix))
        self.run(["bash", "-ec", preparation(self.name, self.folder, needed)])
        self._prepared.write_text(str(pid))
        return True

    def enter(self) -> list[str]:
        """The command prefix that runs a program inside."""
        pid = self.holder.pid()
        if pid is None:
            raise LocalError(f"machine {self.name} is not running; run: penstock local up")
        return ["nsenter", "-t", str(pid), "-m", "-n", "-u", "--"]

    def run(self, command: Sequence[str], *, check: bool = True) -> str:
        """Run a command inside to its end; returns its output."""
        result = subprocess.run([*self.enter(), *command], capture_output=True, text=True)
        if check and result.returncode != 0:
            raise LocalError(f"{self.name}: {' '.join(command)[:200]}: {result.stderr.strip() or result.returncode}")
        return result.stdout

    def has_link(self, name: str) -> bool:
        return self.run(["ip", "link", "show", name], check=False) != ""

    def daemon(self, name: str) -> Daemon:
        return Daemon(self.folder, name)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a background process inside, unless it runs."""
        if (daemon := self.daemon(name)).pid() is None:
            daemon.start([*self.enter(), *command], environment=self._mark)

    def destroy(self, *, seconds: float = 10.0) -> None:
        """End everything that lives in these namespaces; the kernel then drops mounts and links."""
        deadline = time.monotonic() + seconds
        # The holder last: without it nobody can tell any more what else lives here.
        while left := [pid for pid in self.processes() if pid != self.holder.pid()]:
            if time.monotonic() > deadline:
                raise LocalError(f"{self.name}: processes {left} do not end after SIGKILL; see ps -o pid,stat,wchan,args")
            for pid in left:
                _kill(pid)
            time.sleep(0.02)
        self.holder.stop(kill=True)
        shutil.rmtree(self.folder / "pid", ignore_errors=True)
        self._prepared.unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """What runs here: by the mark that every process of ours and its offspring carries, and by mount namespace."""
        found = set(with_environment(f"{MARK}={self.folder}"))
        holder = self.holder.pid()
        if holder is not None:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                found.update(_processes_in(os.readlink(f"/proc/{holder}/ns/mnt")))
        return sorted(pid for pid in found if _lives(pid))


def preparation(name: str, folder: Path, needed: Sequence[Path]) -> str:
    """The script that turns fresh namespaces into a machine. `needed`: folders that stay visible even under /var/lib."""
    back = []
    for one in needed:
        if one.is_relative_to(_VAR_LIB) and one.exists():
            hidden, shown = Path("/run/host", one.relative_to(_VAR_LIB)), shlex.quote(str(one))
            back.append(f"mkdir -p {shown}; mount --rbind {shlex.quote(str(hidden))} {shown}")
    lines = [
        f"hostname {shlex.quote(name)}",
        "mount -t tmpfs -o mode=755 tmpfs /run",
        "mkdir -p /run/netns /run/lock /run/host",
        "mount --rbind /var/lib /run/host",
        "mount -t tmpfs -o mode=755 tmpfs /var/lib",
        *back,
        "umount --lazy /run/host; rmdir /run/host",
        f"mkdir -p /var/lib/kubelet; mount --bind {shlex.quote(str(folder / 'kubelet'))} /var/lib/kubelet",
        f"mount --bind {shlex.quote(str(folder / 'varlog'))} /var/log",
        # Only now: what containers mount must reach the kubelet's pods, what is above must stay here.
        "mount --make-rshared /",
        "ip link set lo up",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ]
    return "\n".join(lines)


def _is_sleeping(pid: int) -> bool:
    """unshare has made the namespaces and become sleep."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")
    except OSError:
        return False


def _processes_in(space: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "ns/mnt") == space:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
