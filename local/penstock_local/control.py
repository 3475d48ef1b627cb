"""The control-plane machine of a cluster: etcd, API server, controllers and scheduler beside the bridge that joins the nodes.

It has a kube-proxy too, so that the API server reaches Services; the host reaches the API server through a socket file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from penstock_local import components
from penstock_local.apiserver import ApiServer, by_file
from penstock_local.certificates import Authority
from penstock_local.components import Endpoint
from penstock_local.files import put
from penstock_local.forwards import Forward
from penstock_local.namespaces import Machine
from penstock_local.node import GATEWAY, Node, kube_proxy_config
from penstock_local.readiness import wait_api

AT = Endpoint(address=GATEWAY, port=6443, etcd_port=2379)
PROCESSES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "forward")
BRIDGE = "br0"

# A kubelet that is not heard of for this long counts as gone; 40 s is what clusters have, 5 s fits a test's patience.
_QUICK_FAILURE = ("--node-monitor-grace-period=5s", "--node-monitor-period=1s")


class ControlPlaneMachine:
    """The machine `control-plane` of the cluster in `folder`."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.machine = Machine(folder / "control-plane", "control-plane")
        self.forward = Forward(folder, self.machine, "forward", "api.sock", f"{AT.address}:{AT.port}")
        self.authority = authority
        self.api = ApiServer(authority, by_file(self.forward.file))

    @property
    def server(self) -> str:
        """The API server as the nodes reach it."""
        return AT.server

    def start(self, programs: Path, *, quick_failure: bool) -> None:
        """Start what does not run; returns when the API server is ready."""
        machine, pki = self.machine, self.authority.folder
        self.authority.prepare([GATEWAY])
        for name in ("admin", "controller-manager", "scheduler", "kube-proxy"):
            self.authority.kubeconfig(name, AT.server)
        machine.create()
        if not machine.has_link(BRIDGE):
            self._make_bridge()
        machine.start("etcd", components.etcd(programs, machine.folder, AT))
        machine.start("kube-apiserver", components.kube_apiserver(programs, pki, AT))
        self.forward.start_inside()
        needed = [machine.daemon(name) for name in ("etcd", "kube-apiserver")]
        wait_api(self.api, needed, hint="; `penstock local reset` starts with empty state")
        grace = _QUICK_FAILURE if quick_failure else ()
        machine.start("kube-controller-manager", components.kube_controller_manager(programs, pki, grace))
        machine.start("kube-scheduler", components.kube_scheduler(programs, pki))
        proxy = machine.folder / "kube-proxy.yaml"
        put(proxy, json.dumps(kube_proxy_config(pki / "kube-proxy.kubeconfig", "control-plane")))
        machine.start("kube-proxy", [f"{programs}/kube-proxy", f"--config={proxy}"])

    def plug(self, node: Node, nodes: Sequence[Node]) -> None:
        """A link from the bridge to the node, unless there is one, and the ways to the pods of all nodes."""
        port = node.port
        if not (node.machine.has_link("eth0") and self.machine.has_link(port)):
            self.machine.run(["ip", "link", "del", port], check=False)
            holder = str(node.machine.holder.pid())
            self.machine.run(["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", holder])
            self.machine.run(["ip", "link", "set", port, "master", BRIDGE, "up"])
            node.machine.run(["ip", "addr", "add", f"{node.address}/24", "dev", "eth0"])
            node.machine.run(["ip", "link", "set", "eth0", "up"])
        node.machine.run(["ip", "route", "replace", "default", "via", GATEWAY])
        self.machine.run(["ip", "route", "replace", node.pods, "via", node.address])
        for other in nodes:
            if other.index != node.index:
                node.machine.run(["ip", "route", "replace", other.pods, "via", other.address])

    def link(self, node: Node, *, up: bool) -> None:
        self.machine.run(["ip", "link", "set", node.port, "up" if up else "down"])

    def _make_bridge(self) -> None:
        for command in (
            ["ip", "link", "add", BRIDGE, "type", "bridge"],
            ["ip", "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE],
            ["ip", "link", "set", BRIDGE, "up"],
            # kube-apiserver wants a default route to choose its address by; nothing is there.
            ["ip", "route", "add", "default", "via", "10.250.0.254", "dev", BRIDGE],
        ):
            self.machine.run(command)
