"""A "machine" of a cluster: mount, network and UTS namespaces held by a sleeping process.

`nsenter` on the holder's pid, not `ip netns exec`, which would hide the cgroup mounts from the kubelet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from penstock_local.errors import LocalError
from penstock_local.processes import Daemon, end

# Inside: mounts of containers must propagate to the kubelet's pods, /run belongs to this machine alone, pod logs too.
_PREPARE = """
hostname {name}
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock
mount --bind {logs} /var/log
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
"""


class Machine:
    """One set of namespaces, with its folder for state, logs and pid files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.holder = Daemon(folder, "holder")

    def create(self) -> bool:
        """Make the namespaces; False when they are there already."""
        if self.holder.pid() is not None:
            return False
        logs = self.folder / "varlog"
        for part in ("pods", "containers"):
            (logs / part).mkdir(parents=True, exist_ok=True)
        pid = self.holder.start(["unshare", "--mount", "--net", "--uts", "--propagation", "private", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + 5
        while os.readlink(f"/proc/{pid}/ns/net") == own or b"sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes()[:16]:
            if time.monotonic() > deadline:
                raise LocalError(f"no namespaces for {self.name}: {self.holder.tail() or 'unshare did not answer'}")
            time.sleep(0.01)
        self.run(["bash", "-ec", _PREPARE.format(name=self.name, logs=logs)])
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

    def daemon(self, name: str) -> Daemon:
        return Daemon(self.folder, name)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a background process inside, unless it runs."""
        if (daemon := self.daemon(name)).pid() is None:
            daemon.start([*self.enter(), *command])

    def destroy(self) -> None:
        """End everything that lives in these namespaces; the kernel then drops mounts and links."""
        pid = self.holder.pid()
        if pid is not None:
            space = os.readlink(f"/proc/{pid}/ns/mnt")
            for other in _processes_in(space):
                if other != pid:
                    end(other, seconds=0)
            self.holder.stop(kill=True)

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


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
