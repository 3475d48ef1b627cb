"""A real Kubernetes cluster on this machine: one control-plane machine, N node machines, a bridge between them.

`up` is level-triggered like everything here: it looks at what is there and makes what is missing, so running it again is a
no-op and running it after processes were killed, or after a reboot, heals. `down` removes every trace.

Networks of several clusters never meet (each has its own namespaces, with the same addresses inside); only the ports on the
host's loopback differ. What EKS adds to Kubernetes is in `eks`, for clusters that want it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from penstock_local import binaries, cgroups, failed, oci, paths, prerequisites, readiness, seeds, sysctls
from penstock_local.apiserver import ApiServer, by_port
from penstock_local.certificates import Authority
from penstock_local.config import Config, check_name, is_free, read, settle, write
from penstock_local.control import PROCESSES, ControlPlaneMachine
from penstock_local.eks import addons, pod_identity
from penstock_local.errors import LocalError
from penstock_local.locks import one_command
from penstock_local.namespaces import MARK, Machine
from penstock_local.node import Node
from penstock_local.node_images import missing
from penstock_local.processes import Daemon, end, with_environment
from penstock_local.seeds import Archive
from penstock_local.steps import Steps

__all__ = ["Cluster", "Config", "clusters"]

_CGROUPS = "penstock"
_NODE_PROCESSES = ("containerd", "kubelet", "kube-proxy")


class Cluster:
    """The cluster called `name`."""

    def __init__(self, name: str) -> None:
        self.name = check_name(name)
        self.folder = paths.state() / name
        self._control = ControlPlaneMachine(self.folder, Authority(self.folder / "pki"))
        self._addons = addons.AddOns(name, self.folder, self._control)
        self._cgroup_root = f"{_CGROUPS}/{name}"

    # --- up ---------------------------------------------------------------------------------------------------------------

    def up(
        self,
        config: Config | None = None,
        *,
        images: Mapping[str, Archive] | None = None,
        aws: bool = False,
        steps: Steps | None = None,
    ) -> None:
        """Bring the cluster to life and wait until its nodes are Ready and its DNS answers.

        Args:
            config: for a new cluster; an existing one may only grow by it. Default: what it has, else two nodes.
            images: what every node shall hold; new nodes get them in seconds from the cache, running ones by import.
            aws: with the fake AWS, FSx volumes and Pod Identity; an existing cluster can have them too.

        Raises:
            LocalError: something is missing on this machine or did not start; the message says what to do. A cluster that was
                not there before is not there then either; its logs are, in `failed.folder`, until the next `up` or `down`.
        """
        steps = steps or Steps()
        prerequisites.check()
        programs = binaries.ensure(binaries.CLUSTER, steps)
        with one_command(self.name, steps):
            kept = read(self.folder)
            wanted = settle(self.name, kept, replace(config or kept or Config(), aws=True) if aws else config)
            port = config.port if config is not None else 0
            if port:
                self.check_port(port)
            if wanted.aws:
                self._addons.prepare(steps)
            try:
                self._make(programs, wanted, images or {}, steps, own_port=not port)
            except Exception as error:
                if kept is not None or not self.folder.exists():
                    raise
                words = failed.told(str(error), self.name, self._remove(steps, keep_logs=True))
                if isinstance(error, LocalError):
                    raise LocalError(words) from error
                error.add_note(words)
                raise
            failed.forget(self.name)

    def _make(self, programs: Path, wanted: Config, images: Mapping[str, Archive], steps: Steps, *, own_port: bool) -> None:
        write(self.folder, wanted)
        sysctls.remember(paths.state())
        nodes = self._nodes(programs, wanted)
        held = {"pause": Archive.of(oci.pause_archive()), "coredns": Archive.of(oci.coredns_archive()), **images}
        # Side by side: one is bound by the processors, the other by the disk.
        with ThreadPoolExecutor(1) as beside:
            seeded = beside.submit(self._seed, nodes, held, steps)
            with steps.step("control plane"):
                self._control.start(programs, quick_failure=wanted.quick_failure)
                self._open_port(wanted, own=own_port)
            seeded.result()
        if wanted.aws:
            wanted.aws_port = self._addons.forward.choose(wanted.aws_port)
            write(self.folder, wanted)
            self._addons.start(self.kubectl, wanted.aws_port)
        with steps.step(f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"):
            for node in nodes:
                if node.machine.create():
                    cgroups.remove(f"{self._cgroup_root}/{node.name}")  # pods of an earlier machine outlive its namespaces
            for node in nodes:
                self._control.plug(node, nodes)
                cgroups.make(self._cgroup_root, node.name)
                node.configure(self._control.authority, self._control.server)
                if wanted.aws:
                    self._addons.start_on(node)
                node.start()
            self.kubectl("apply", "-f", str(Path(__file__).with_name("coredns.yaml")))
            readiness.wait_nodes(self._control.api, self.kubectl, nodes)
        if wanted.aws:
            with steps.step("fake AWS"):
                self._addons.wait(nodes, wanted.aws_port)
        self.load_images(held, steps=steps)
        with steps.step("cluster DNS"):
            readiness.wait_dns(self._control.api, self.kubectl)

    def _open_port(self, config: Config, *, own: bool) -> None:
        """The API server on the host's loopback. `own`: the port is our choice, and another when somebody took it meanwhile."""
        if own:
            config.port = self._control.forward.choose(config.port)
        else:
            self.check_port(config.port)
        write(self.folder, config)
        self._control.forward.start_outside(config.port)
        self._control.authority.kubeconfig("admin", f"https://127.0.0.1:{config.port}", self.kubeconfig)
        outside = ApiServer(self._control.authority, by_port(config.port))
        try:
            readiness.wait_api(outside, [self._control.forward.outside], seconds=20.0)
        except LocalError as error:
            raise LocalError(f"no way to the API server from the host: {error}") from error

    def _seed(self, nodes: list[Node], images: Mapping[str, Archive], steps: Steps) -> None:
        new = [node for node in nodes if not (node.machine.folder / "containerd").exists()]
        if new:
            root = seeds.ensure(images, steps)
            with steps.step(f"images of {len(new)} new node{'s' if len(new) > 1 else ''}"):
                for node in new:
                    node.machine.folder.mkdir(parents=True, exist_ok=True)
                    seeds.copy(root, node.machine.folder / "containerd")

    # --- down -------------------------------------------------------------------------------------------------------------

    def down(self, steps: Steps | None = None) -> None:
        """Remove the cluster: processes, mounts, namespaces, cgroups, links, files; sysctls after the last cluster."""
        steps = steps or Steps()
        with one_command(self.name, steps):
            if self.folder.exists():
                self._remove(steps)
            failed.forget(self.name)

    def _remove(self, steps: Steps, *, keep_logs: bool = False) -> dict[Path, Path]:
        """`keep_logs`: they stay in `failed.folder`; returns from where they went to where."""
        with steps.step(f"remove cluster {self.name}"):
            self._control.forward.outside.stop(kill=True)
            for pid in with_environment(f"{MARK}={self.folder}"):
                end(pid, seconds=0)
            for folder in self.folder.iterdir():
                if folder.is_dir():
                    Machine(folder, folder.name).destroy()
            cgroups.remove(self._cgroup_root)
            logs = failed.keep(self.name, self.folder) if keep_logs else {}
            shutil.rmtree(self.folder)
            cgroups.remove_empty(_CGROUPS)
            if not clusters():
                sysctls.restore(paths.state())
                if not any(paths.state().iterdir()):
                    paths.state().rmdir()
        return logs

    # --- use --------------------------------------------------------------------------------------------------------------

    def check_port(self, port: int) -> None:
        """That the API server has this port of the loopback, or can have it.

        Raises:
            LocalError: somebody else listens there.
        """
        kept = read(self.folder)
        is_ours = kept is not None and kept.port == port and self._control.forward.outside.pid() is not None
        if not is_ours and not is_free(port):
            raise LocalError(
                f"port {port} of 127.0.0.1 is taken by another program (ss -ltnp 'sport = :{port}' names it);"
                " ask for another with --port, or for none and a free one is chosen"
            )

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def exists(self) -> bool:
        return read(self.folder) is not None

    @property
    def config(self) -> Config:
        """What it was started with.

        Raises:
            LocalError: there is no such cluster.
        """
        if (config := read(self.folder)) is None:
            there = clusters()
            hint = f"there are: {', '.join(there)}" if there else "run: penstock local up"
            raise LocalError(f"no cluster {self.name!r}; {hint}")
        return config

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl as administrator; returns its output, raises LocalError with its words."""
        command = [f"{binaries.folder()}/kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if result.returncode != 0:
            raise LocalError(f"kubectl {' '.join(arguments)[:200]}: {result.stderr.strip()}")
        return result.stdout

    def nodes(self) -> list[Node]:
        return self._nodes(binaries.folder(), self.config)

    def node(self, name: str) -> Node:
        found = {node.name: node for node in self.nodes()}
        if name not in found:
            raise LocalError(f"no node {name!r} in cluster {self.name}; there are: {', '.join(found)}")
        return found[name]

    def load_image(self, name: str, archive: Archive, *, steps: Steps | None = None) -> None:
        """Import an image into every node that does not have this digest."""
        self.load_images({name: archive}, steps=steps)

    def load_images(self, images: Mapping[str, Archive], *, steps: Steps | None = None) -> None:
        """Import of these images what each node does not have."""
        nodes = self.nodes()
        with ThreadPoolExecutor(2) as pool:
            found = pool.map(lambda node: missing(node.images(), images), nodes)
            lacking = [(node, names) for node, names in zip(nodes, found, strict=True) if names]
            if lacking:
                names = ", ".join(name for name in images if any(name in those for _, those in lacking))
                with (steps or Steps()).step(f"import {names} into {', '.join(node.name for node, _ in lacking)}"):
                    list(pool.map(lambda one: [one[0].import_archive(images[name].path) for name in one[1]], lacking))

    def aws_environment(self) -> dict[str, str]:
        """What leads AWS clients on the host to the cluster's fake AWS.

        Raises:
            LocalError: the cluster was started without one.
        """
        if not self.config.aws:
            raise LocalError(f"cluster {self.name} has no fake AWS; to start one: penstock local up --aws --name {self.name}")
        return addons.environment(self.config.aws_port)

    def associate(self, namespace: str, account: str, role: str | None = None) -> str:
        """EKS Pod Identity: new pods of this service account get credentials of the role; see `eks.pod_identity`."""
        _ = self.aws_environment()
        return pod_identity.associate(self.kubectl, namespace, account, role)

    def dissociate(self, namespace: str, account: str) -> None:
        """Pods of this service account get credentials no more."""
        _ = self.aws_environment()
        pod_identity.dissociate(self.kubectl, namespace, account)

    def stop_kubelet(self, node: str) -> None:
        """A node whose kubelet is dead; its pods go on running."""
        self.node(node).machine.daemon("kubelet").stop(kill=True)

    def start_kubelet(self, node: str) -> None:
        """The kubelet again; returns when the node is Ready."""
        found = self.node(node)
        found.start_kubelet()
        readiness.wait_nodes(self._control.api, self.kubectl, [found])

    def link(self, node: str, *, up: bool) -> None:
        """Cut a node's network, or join it again."""
        self._control.link(self.node(node), up=up)

    def kill(self, process: str) -> None:
        """SIGKILL one process, named as in `daemons()`; `up` starts it again."""
        self.daemon(process).stop(kill=True)

    def daemon(self, process: str) -> Daemon:
        found = self.daemons()
        if process not in found:
            raise LocalError(f"no process {process!r}; choose from: {', '.join(found)}")
        return found[process]

    def daemons(self) -> dict[str, Daemon]:
        """Every process of the cluster by `machine/name`."""
        found = {"host/forward": self._control.forward.outside}
        found.update({f"control-plane/{name}": self._control.machine.daemon(name) for name in PROCESSES})
        for node in self.nodes():
            found.update({f"{node.name}/{name}": node.machine.daemon(name) for name in _NODE_PROCESSES})
        return {**found, **(self._addons.daemons(self.nodes()) if self.config.aws else {})}

    def _nodes(self, programs: Path, config: Config) -> list[Node]:
        return [
            Node(self.folder, index, programs, self._cgroup_root, config.shape(), quick_failure=config.quick_failure)
            for index in range(1, config.nodes + 1)
        ]


def clusters() -> list[str]:
    """Names of the clusters that have state on this machine."""
    home = paths.state()
    return sorted(one.name for one in home.iterdir() if read(one) is not None) if home.exists() else []
