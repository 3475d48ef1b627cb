"""A way from the host's loopback into a machine without any route or address: two socats with a socket file between them."""

from __future__ import annotations

from pathlib import Path

from penstock_local.config import is_free
from penstock_local.controlplane import free_ports
from penstock_local.namespaces import MARK, Machine
from penstock_local.processes import Daemon


class Forward:
    """From 127.0.0.1 to `target` (`address:port`) inside the machine. `name`: of both processes; `folder`: the cluster's."""

    def __init__(self, folder: Path, machine: Machine, name: str, socket: str, target: str) -> None:
        self.name, self.outside = name, Daemon(folder, name)
        self._folder, self._machine, self.file, self._target = folder, machine, folder / socket, target

    def start_inside(self) -> None:
        if self._machine.daemon(self.name).pid() is None:
            self.file.unlink(missing_ok=True)
            self._machine.start(self.name, ["socat", f"UNIX-LISTEN:{self.file},fork", f"TCP:{self._target}"])

    def choose(self, port: int) -> int:
        """The port of the loopback to listen on: this one, or another when it is 0 or somebody else took it meanwhile."""
        return port if self.outside.pid() is not None or (port and is_free(port)) else free_ports(1)[0]

    def start_outside(self, port: int) -> None:
        """Write down the port first: once this runs nobody else can tell which it is."""
        if self.outside.pid() is None:
            listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
            self.outside.start(["socat", listen, f"UNIX-CONNECT:{self.file}"], environment={MARK: str(self._folder)})
