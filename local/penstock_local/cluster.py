"""A real Kubernetes cluster on this machine: one control-plane machine, N node machines, a bridge between them.

`up` is level-triggered like everything here: it looks at what is there and makes what is missing, so running it again is a no-op
and running it after processes were killed, or after a reboot, heals. `down` removes every trace.

Networks of several clusters never meet (each has its own namespaces, with the same addresses inside); only the port on the
host's loopback differs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from penstock_local import binaries, cgroups, components, oci, paths, prerequisites, seeds, sysctls
from penstock_local.certificates import Authority
from penstock_local.components import Endpoint
from penstock_local.controlplane import free_ports
from penstock_local.errors import LocalError
from penstock_local.namespaces import Machine
from penstock_local.node import GATEWAY, Node, NodeShape, kube_proxy_config
from penstock_local.processes import Daemon
from penstock_local.seeds import Archive
from penstock_local.steps import Steps

_AT = Endpoint(address=GATEWAY, port=6443, etcd_port=2379)


@dataclass(slots=True, kw_only=True)
class Config:
    """What a cluster was started with; kept in its folder, so that `up` after a reboot makes the same one."""

    nodes: int = 2
    quick_failure: bool = False
    port: int = 0
    instance_type: str = "p4d.24xlarge"
    gpus: int = 8
    efa: int = 4


class Cluster:
    """The cluster called `name`."""

    def __init__(self, name: str = "penstock") -> None:
        self.name = name
        self.folder = paths.state() / name
        self._control_plane = Machine(self.folder / "control-plane", "control-plane")
        self._forward = Daemon(self.folder, "forward")

    # --- up ---------------------------------------------------------------------------------------------------------------

    def up(
        self, config: Config | None = None, *, images: Mapping[str, Archive] | None = None, steps: Steps | None = None
    ) -> None:
        """Bring the cluster to life and wait until its nodes are Ready and its DNS answers.

        `config` counts for a new cluster only. `images` are put on nodes that are new; `load_image` serves running ones.
        """
        steps = steps or Steps()
        prerequisites.check()
        programs = binaries.ensure(binaries.CLUSTER, steps)
        config = self._configure(config)
        sysctls.remember(paths.state())
        with steps.step("control plane"):
            self._start_control_plane(programs, config)
        nodes = self._nodes(programs, config)
        base = {"pause": Archive.of(oci.pause_archive()), "coredns": Archive.of(oci.coredns_archive())}
        if any(not (node.machine.folder / "containerd").exists() for node in nodes):
            root = seeds.ensure({**base, **(images or {})}, steps)
            for node in nodes:
                self._seed(node, root, {**base, **(images or {})})
        with steps.step(f"{len(nodes)} nodes"):
            for node in nodes:
                self._join(node, nodes)
            self._forward.start(self._forward_command(config.port))
            self.kubectl("apply", "-f", str(Path(__file__).with_name("coredns.yaml")))
            self._wait_nodes(nodes)
        with steps.step("cluster DNS"):
            self.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s")
        for name, archive in (images or {}).items():
            self.load_image(name, archive)

    def _configure(self, config: Config | None) -> Config:
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self.folder / "config.json"
        if kept.exists():
            return Config(**json.loads(kept.read_text()))
        config = config or Config()
        config.port = config.port or free_ports(1)[0]
        kept.write_text(json.dumps(asdict(config)))
        return config

    def _start_control_plane(self, programs: Path, config: Config) -> None:
        machine, authority = self._control_plane, self._authority()
        authority.prepare([GATEWAY])
        for name in ("admin", "controller-manager", "scheduler", "kube-proxy"):
            authority.kubeconfig(name, _AT.server)
        authority.kubeconfig("admin", f"https://127.0.0.1:{config.port}", self.kubeconfig)
        if machine.create():
            for command in (
                ["ip", "link", "add", "br0", "type", "bridge"],
                ["ip", "addr", "add", f"{GATEWAY}/24", "dev", "br0"],
                ["ip", "link", "set", "br0", "up"],
                # kube-apiserver wants a default route to choose its address by; nothing is there.
                ["ip", "route", "add", "default", "via", "10.250.0.254", "dev", "br0"],
            ):
                machine.run(command)
        pki = authority.folder
        machine.start("etcd", components.etcd(programs, machine.folder, _AT))
        machine.start("kube-apiserver", components.kube_apiserver(programs, pki, _AT))
        self._wait_api(programs)
        grace = ("--node-monitor-grace-period=6s", "--node-monitor-period=1s") if config.quick_failure else ()
        machine.start("kube-controller-manager", components.kube_controller_manager(programs, pki, grace))
        machine.start("kube-scheduler", components.kube_scheduler(programs, pki))
        proxy = machine.folder / "kube-proxy.yaml"
        proxy.write_text(json.dumps(kube_proxy_config(pki / "kube-proxy.kubeconfig", "control-plane")))
        machine.start("kube-proxy", [f"{programs}/kube-proxy", f"--config={proxy}"])
        # The API server inside, a socket file between: the host's loopback reaches it without any route or address.
        socket = self.folder / "api.sock"
        if machine.daemon("forward").pid() is None:
            socket.unlink(missing_ok=True)
            machine.start("forward", ["socat", f"UNIX-LISTEN:{socket},fork", f"TCP:{GATEWAY}:{_AT.port}"])

    def _forward_command(self, port: int) -> list[str]:
        return ["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", f"UNIX-CONNECT:{self.folder / 'api.sock'}"]

    def _wait_api(self, programs: Path) -> None:
        kubectl = [
            f"{programs}/kubectl",
            f"--kubeconfig={self._authority().path('admin.kubeconfig')}",
            "get",
            "--raw",
            "/readyz",
        ]
        deadline = time.monotonic() + 90
        while self._control_plane.run(kubectl, check=False) != "ok":
            for name in ("etcd", "kube-apiserver"):
                if (daemon := self._control_plane.daemon(name)).pid() is None:
                    raise LocalError(f"{name} ended; its log ends with:\n{daemon.tail()}")
            if time.monotonic() > deadline:
                raise LocalError(f"kube-apiserver is not ready:\n{self._control_plane.daemon('kube-apiserver').tail()}")
            time.sleep(0.1)

    def _seed(self, node: Node, root: Path, images: Mapping[str, Archive]) -> None:
        target = node.machine.folder / "containerd"
        if not target.exists():
            node.machine.folder.mkdir(parents=True, exist_ok=True)
            seeds.copy(root, target)
            self._note_images(node, {name: one.digest for name, one in images.items()})

    def _join(self, node: Node, nodes: list[Node]) -> None:
        if node.machine.create():
            node.connect(self._control_plane)
        for other in nodes:
            if other is not node:
                node.route_to(other)
        node.configure(self._authority(), _AT.server)
        node.start()

    def _wait_nodes(self, nodes: list[Node]) -> None:
        """Until every kubelet has reported Ready since it was started; then give the nodes their GPUs."""
        deadline = time.monotonic() + 120
        waiting = {node.name for node in nodes}
        while waiting:
            found = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
            ready = {one["metadata"]["name"] for one in found if _is_ready(one)}
            waiting -= ready
            for node in nodes:
                if node.machine.daemon("kubelet").pid() is None:
                    raise LocalError(f"the kubelet of {node.name} ended:\n{node.machine.daemon('kubelet').tail()}")
            if waiting and time.monotonic() > deadline:
                state = self.kubectl("get", "nodes")
                raise LocalError(f"not Ready after 120 s: {', '.join(sorted(waiting))}\n{state}")
            time.sleep(0.1 if waiting else 0)
        for node in nodes:
            self._equip(node)

    def _equip(self, node: Node) -> None:
        """Extended resources, as device plugins would report them. A restarted kubelet sets them to 0, so this comes after."""
        resources = node.shape.resources()
        patch = json.dumps({"status": {"capacity": resources, "allocatable": resources}})
        self.kubectl("patch", "node", node.name, "--subresource=status", "--type=merge", "-p", patch)

    # --- down -------------------------------------------------------------------------------------------------------------

    def down(self, steps: Steps | None = None) -> None:
        """Remove the cluster: processes, mounts, namespaces, cgroups, links, files; sysctls after the last cluster."""
        if not self.folder.exists():
            return
        with (steps or Steps()).step(f"remove cluster {self.name}"):
            machines = [Machine(folder, folder.name) for folder in self.folder.iterdir() if (folder / "pid").is_dir()]
            for machine in machines:
                for name in ("kubelet", "kube-proxy"):
                    machine.daemon(name).stop(seconds=2)
            cgroups.remove(self._cgroup_root, seconds=1)
            self._forward.stop()
            for machine in machines:
                machine.destroy()
            cgroups.remove(self._cgroup_root)
            shutil.rmtree(self.folder, ignore_errors=True)
            if not clusters():
                cgroups.remove(_CGROUPS)
                sysctls.restore(paths.state())

    # --- use --------------------------------------------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def exists(self) -> bool:
        return (self.folder / "config.json").exists()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl as administrator; returns its output, raises LocalError with its words."""
        command = [f"{binaries.folder()}/kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if result.returncode != 0:
            raise LocalError(f"kubectl {' '.join(arguments)[:200]}: {result.stderr.strip()}")
        return result.stdout

    def nodes(self) -> list[Node]:
        return self._nodes(binaries.folder(), self._configure(None))

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes() if node.name == name)

    def load_image(self, name: str, archive: Archive) -> None:
        """Import an image into every node that does not have this digest."""
        for node in self.nodes():
            known = self._known_images(node)
            if known.get(name) != archive.digest:
                node.machine.run([*node.ctr(), "images", "import", str(archive.path)])
                self._note_images(node, {**known, name: archive.digest})

    def stop_kubelet(self, node: str) -> None:
        """A node whose kubelet is dead; its pods go on running."""
        self.node(node).machine.daemon("kubelet").stop(seconds=2)

    def start_kubelet(self, node: str) -> None:
        found = self.node(node)
        found.start_kubelet()
        self._wait_nodes([found])

    def link(self, node: str, *, up: bool) -> None:
        """Cut a node's network, or join it again."""
        found = self.node(node)
        self._control_plane.run(["ip", "link", "set", f"p{found.index}", "up" if up else "down"])

    def daemons(self) -> dict[str, Daemon]:
        """Every process of the cluster by `machine/name`."""
        found = {"host/forward": self._forward}
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
            found[f"control-plane/{name}"] = self._control_plane.daemon(name)
        for node in self.nodes():
            for name in ("containerd", "kubelet", "kube-proxy"):
                found[f"{node.name}/{name}"] = node.machine.daemon(name)
        return found

    # --- small things -----------------------------------------------------------------------------------------------------

    @property
    def _cgroup_root(self) -> str:
        return f"{_CGROUPS}/{self.name}"

    def _authority(self) -> Authority:
        return Authority(self.folder / "pki")

    def _nodes(self, programs: Path, config: Config) -> list[Node]:
        shape = NodeShape(instance_type=config.instance_type, gpus=config.gpus, efa=config.efa)
        quick = config.quick_failure
        return [
            Node(self.folder, index, programs, self._cgroup_root, shape, quick_failure=quick)
            for index in range(1, config.nodes + 1)
        ]

    @staticmethod
    def _known_images(node: Node) -> dict[str, str]:
        path = node.machine.folder / "images.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return known

    @staticmethod
    def _note_images(node: Node, images: dict[str, str]) -> None:
        (node.machine.folder / "images.json").write_text(json.dumps(images))


_CGROUPS = "penstock"


def clusters() -> list[str]:
    """Names of the clusters that have state on this machine."""
    home = paths.state()
    return sorted(one.name for one in home.iterdir() if (one / "config.json").exists()) if home.exists() else []


def _is_ready(node: dict[str, object]) -> bool:
    status = node.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
