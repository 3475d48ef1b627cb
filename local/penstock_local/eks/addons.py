"""The processes and objects that make a local cluster like EKS: started, healed and stopped with the cluster.

The fake AWS and the Pod Identity agent run on the control-plane machine and listen only on its bridge, where every node's
default route leads; the host has a way to the fake AWS by a port of its loopback. The CSI plugin runs on each node.
The fake AWS forgets its resources when it ends (its files stay), so after a kill or a reboot S3 and FSx are empty again.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from string import Template

from penstock_local import binaries
from penstock_local.apiserver import ApiServer
from penstock_local.control import AT, BRIDGE, ControlPlaneMachine
from penstock_local.eks import AGENT_ADDRESS, AUDIENCE, AWS_ENDPOINT, AWS_PORT, REGION
from penstock_local.errors import LocalError
from penstock_local.forwards import Forward
from penstock_local.node import GATEWAY, Node
from penstock_local.processes import Daemon
from penstock_local.readiness import Kubectl
from penstock_local.steps import Steps

DRIVER = "fsx.csi.aws.com"
_PROCESSES = ("fake-aws", "aws-forward", "pod-identity-agent")
_SECONDS = 60.0


class AddOns:
    """Those of the cluster `name` in `folder`."""

    def __init__(self, name: str, folder: Path, control: ControlPlaneMachine) -> None:
        self._name, self._data, self._control = name, folder / "aws", control
        self.forward = Forward(folder, control.machine, "aws-forward", "aws.sock", f"{GATEWAY}:{AWS_PORT}")

    def prepare(self, steps: Steps) -> None:
        """What this machine must have, before anything is started.

        Raises:
            LocalError: moto or its server is not installed, or the CSI plugin does not build.
        """
        for name in ("moto", "cheroot"):
            if importlib.util.find_spec(name) is None:
                raise LocalError(f"the fake AWS needs {name}, which is not installed; run: pip install -e '.[fake-aws]'")
        binaries.ensure(("fsx-csi",), steps)

    def start(self, kubectl: Kubectl, port: int) -> None:
        """Start what does not run beside the control plane. `port`: of the host's loopback, for the fake AWS."""
        self._data.mkdir(exist_ok=True)
        machine, python = self._control.machine, [sys.executable, "-m"]
        machine.run(["ip", "addr", "replace", f"{AGENT_ADDRESS}/32", "dev", BRIDGE])
        at = ["--host", GATEWAY, "--port", str(AWS_PORT)]
        machine.start("fake-aws", [*python, "penstock_local.aws", *at, "--state", str(self._data)])
        agent = ["--host", AGENT_ADDRESS, "--server", AT.server, "--pki", str(self._control.authority.folder)]
        agent += ["--aws", AWS_ENDPOINT, "--cluster", self._name]
        machine.start("pod-identity-agent", [*python, "penstock_local.eks.agent", *agent])
        self.forward.start_inside()
        self.forward.start_outside(port)
        values = {"endpoint": AWS_ENDPOINT, "region": REGION, "agent": AGENT_ADDRESS, "audience": AUDIENCE}
        objects = Template(Path(__file__).with_name("addons.yaml").read_text()).substitute(values)
        kubectl("apply", "-f", "-", stdin=objects)

    def start_on(self, node: Node) -> None:
        """The CSI plugin, unless it runs; before the kubelet, which mounts what its pods had."""
        program = binaries.folder() / binaries.file_name("fsx-csi")
        data = ["--data", str(self._data / "fsx"), "--endpoint", AWS_ENDPOINT]
        node.machine.start("fsx-csi", [str(program), "--node", node.name, *data])

    def wait(self, nodes: Sequence[Node], port: int) -> None:
        """Until every node's kubelet has its plugin, the fake AWS answers the host, and the agent its machine.

        Raises:
            LocalError: a process ended, or the time is over; with the end of its log.
        """
        deadline = time.monotonic() + _SECONDS
        while lacking := [node for node in nodes if node.name not in _registered(self._control.api)]:
            for node in lacking:
                _check(node.machine.daemon("fsx-csi"), f"{DRIVER} is not registered on {node.name}", deadline)
            time.sleep(0.1)
        while reason := _unanswered(port):
            _check(self._control.machine.daemon("fake-aws"), f"the fake AWS does not answer ({reason})", deadline)
            time.sleep(0.1)
        knock = f"exec 3<>/dev/tcp/{AGENT_ADDRESS}/80 && echo open"
        while "open" not in self._control.machine.run(["bash", "-c", knock], check=False):
            _check(self._control.machine.daemon("pod-identity-agent"), "the Pod Identity agent does not listen", deadline)
            time.sleep(0.1)

    def daemons(self, nodes: Sequence[Node]) -> dict[str, Daemon]:
        """By `machine/name`."""
        found = {"host/aws-forward": self.forward.outside}
        found.update({f"control-plane/{name}": self._control.machine.daemon(name) for name in _PROCESSES})
        found.update({f"{node.name}/fsx-csi": node.machine.daemon("fsx-csi") for node in nodes})
        return found


def environment(port: int) -> dict[str, str]:
    """What leads AWS clients on the host to the fake AWS; `port`: of the loopback. Any credentials are good there."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIAPENSTOCKFAKEAWS0",
        "AWS_SECRET_ACCESS_KEY": "no-secret-of-anything",
    }


def _registered(api: ApiServer) -> set[str]:
    """Names of the nodes whose kubelet knows the driver."""
    found = api.items("/apis/storage.k8s.io/v1/csinodes")
    return {one["metadata"]["name"] for one in found if DRIVER in [each["name"] for each in one["spec"]["drivers"] or ()]}


def _unanswered(port: int) -> str:
    """Why the fake AWS cannot be had at this port of the loopback; "" when it can."""
    # Whatever proxy the environment names is not for the loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/penstock/config", timeout=5):
            return ""
    except OSError as error:
        return str(error)


def _check(daemon: Daemon, what: str, deadline: float) -> None:
    if daemon.pid() is None or time.monotonic() > deadline:
        raise LocalError(f"{what}. The end of {daemon.log}:\n{daemon.tail()}")
