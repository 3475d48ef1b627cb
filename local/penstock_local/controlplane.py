"""A real API server on loopback, without nodes: what API tests and benchmarks run against. Ready in about three seconds.

    with ControlPlane(folder) as plane:
        plane.kubectl("get", "namespaces")

Its processes die with this one, however it ends.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from penstock_local import binaries, components, paths
from penstock_local.apiserver import ApiServer, by_port
from penstock_local.certificates import Authority
from penstock_local.components import Endpoint
from penstock_local.errors import LocalError
from penstock_local.processes import Daemon
from penstock_local.readiness import wait_api, wait_crds
from penstock_local.steps import Steps

READY_SECONDS = 60.0


class ControlPlane:
    """etcd, kube-apiserver and, unless left out, kube-controller-manager, with state in `folder`."""

    def __init__(
        self,
        folder: Path,
        components: Sequence[str] = ("etcd", "kube-apiserver", "kube-controller-manager"),
        *,
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._components = tuple(components)
        self._apiserver_flags = tuple(apiserver_flags)
        self._authority = Authority(folder / "pki")
        ports = free_ports(3)
        self._at = Endpoint(address="127.0.0.1", port=ports[0], etcd_port=ports[1])
        self._daemons = {name: Daemon(folder, name) for name in self._components}

    @property
    def server(self) -> str:
        return self._at.server

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def __enter__(self) -> ControlPlane:
        self._binaries = binaries.ensure((*self._components, "kubectl"), Steps())
        self._authority.prepare([])
        self._authority.kubeconfig("admin", self.server, self.kubeconfig)
        for name in ("controller-manager", "scheduler"):
            self._authority.kubeconfig(name, self.server)
        try:
            for name in self._components:
                self.start(name)
                if name == "kube-apiserver":
                    self.wait_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def start(self, component: str) -> None:
        """Start one component; no effect when it runs."""
        pki = self._authority.folder
        command = {
            "etcd": lambda: components.etcd(self._binaries, self.folder, self._at),
            "kube-apiserver": lambda: components.kube_apiserver(self._binaries, pki, self._at, self._apiserver_flags),
            "kube-controller-manager": lambda: components.kube_controller_manager(self._binaries, pki),
            "kube-scheduler": lambda: components.kube_scheduler(self._binaries, pki),
        }[component]()
        self._daemons[component].start(command, die_with_parent=True)

    def kill(self, component: str) -> None:
        """SIGKILL one component."""
        self._daemons[component].stop(kill=True)

    def pid(self, component: str) -> int | None:
        return self._daemons[component].pid()

    def wait_ready(self) -> None:
        """Return when /readyz says ok.

        Raises:
            LocalError: not within a minute, or a process ended; with the end of its log.
        """
        api = ApiServer(self._authority, by_port(self._at.port))
        wait_api(api, [self._daemons[name] for name in ("etcd", "kube-apiserver")], seconds=READY_SECONDS)

    def install_crds(self) -> None:
        """Penstock's own kinds, as they are in this checkout; returns when they are served."""
        files = sorted((paths.checkout() / "manifests" / "crds").glob("*.penstock.dev.yaml"))
        self.kubectl("apply", "--server-side", *(f"--filename={file}" for file in files))
        wait_crds(self.kubectl, *(file.stem for file in files))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as cluster administrator; returns its output.

        Raises:
            LocalError: it failed; the message is kubectl's own.
        """
        result = subprocess.run([*self._kubectl(), *arguments], input=stdin, capture_output=True, text=True)
        if result.returncode != 0:
            raise LocalError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def _kubectl(self) -> list[str]:
        return [f"{self._binaries}/kubectl", f"--kubeconfig={self.kubeconfig}"]

    def _stop(self) -> None:
        for name in reversed(self._components):
            self._daemons[name].stop(seconds=2)
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Free TCP ports on loopback, in a row (etcd's peer port follows its client port). They are below the range from which the
    kernel gives ports to outgoing connections: one of those could be taken between this check and its use."""
    while True:
        first = random.randrange(20000, 32000 - count)
        ports = list(range(first, first + count))
        if all(_is_free(port) for port in ports):
            return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
