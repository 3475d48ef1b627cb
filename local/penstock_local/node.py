"""One node: containerd, kubelet and kube-proxy in namespaces of their own.

Every setting that is not a default has its reason here; most were found by a node that did not come up.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from penstock_local import cgroups, oci
from penstock_local.certificates import Authority
from penstock_local.components import POD_RANGE
from penstock_local.errors import LocalError
from penstock_local.files import put
from penstock_local.imports import import_archive
from penstock_local.namespaces import Machine
from penstock_local.prerequisites import plugin_folder

_WHOLE = ("complete", "true")
SOCKET = "/run/containerd/containerd.sock"
GATEWAY = "10.250.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """What a node pretends to be: labels and extended resources of an EKS GPU node."""

    instance_type: str = "p4d.24xlarge"
    region: str = "us-east-1"
    capacity_type: str = "spot"
    gpus: int = 8
    efa: int = 4

    def labels(self, index: int) -> dict[str, str]:
        return {
            "node.kubernetes.io/instance-type": self.instance_type,
            "topology.kubernetes.io/region": self.region,
            "topology.kubernetes.io/zone": f"{self.region}{'ab'[(index - 1) % 2]}",
            "karpenter.sh/capacity-type": self.capacity_type,
            "eks.amazonaws.com/capacityType": self.capacity_type.replace("-", "_").upper(),
        }

    def resources(self) -> dict[str, str]:
        return {"nvidia.com/gpu": str(self.gpus), "vpc.amazonaws.com/efa": str(self.efa)}


class Node:
    """Node `index` (from 1) of a cluster in `folder`."""

    def __init__(
        self, folder: Path, index: int, binaries: Path, cgroup_root: str, shape: NodeShape, *, quick_failure: bool
    ) -> None:
        self.name, self.index = f"node{index}", index
        self.address = f"10.250.0.{10 + index}"
        self.pods = f"10.244.{index}.0/24"
        self.machine = Machine(folder / self.name, self.name)
        self.shape = shape
        self._binaries, self._cgroup_root, self._quick_failure = binaries, cgroup_root, quick_failure

    @property
    def port(self) -> str:
        """The bridge's end of the node's link."""
        return f"p{self.index}"

    def configure(self, authority: Authority, server: str) -> None:
        """Write the configuration files; certificates are made once."""
        authority.kubelet(self.name, self.address)
        etc = self.machine.folder / "etc"
        (etc / "cni").mkdir(parents=True, exist_ok=True)
        # A kubelet that finds no device checkpoint at its start takes the node for new and sets extended resources to 0.
        kept = self.machine.folder / "kubelet" / "device-plugins" / "extended-resources-are-kept"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()
        authority.kubeconfig(f"{self.name}-kubelet", server, etc / "kubelet.kubeconfig")
        authority.kubeconfig("kube-proxy", server, etc / "kube-proxy.kubeconfig")
        put(etc / "resolv.conf", "# names outside the cluster do not resolve here\n")
        put(etc / "containerd.toml", self._containerd())
        put(etc / "cni" / "10-bridge.conflist", json.dumps(self._network()))
        put(etc / "kubelet.yaml", yaml.safe_dump(self._kubelet(authority)))
        put(etc / "kube-proxy.yaml", yaml.safe_dump(kube_proxy_config(etc / "kube-proxy.kubeconfig", self.name)))

    def start(self) -> None:
        """Start what does not run."""
        self.start_containerd()
        self.start_kubelet()
        self.machine.start(
            "kube-proxy", [f"{self._binaries}/kube-proxy", f"--config={self.machine.folder}/etc/kube-proxy.yaml"]
        )

    def start_containerd(self) -> None:
        self.machine.start("containerd", ["containerd", "--config", f"{self.machine.folder}/etc/containerd.toml"])
        deadline = time.monotonic() + 20
        # ctr prints its own version even when nobody answers.
        while "Server:" not in self.machine.run([*self.ctr(), "version"], check=False):
            if time.monotonic() > deadline:
                raise LocalError(f"containerd on {self.name} does not answer:\n{self.machine.daemon('containerd').tail()}")
            time.sleep(0.05)

    def start_kubelet(self) -> None:
        etc = self.machine.folder / "etc"
        labels = ",".join(f"{key}={value}" for key, value in self.shape.labels(self.index).items())
        self.machine.start(
            "kubelet",
            [
                f"{self._binaries}/kubelet",
                f"--config={etc}/kubelet.yaml",
                f"--kubeconfig={etc}/kubelet.kubeconfig",
                f"--node-ip={self.address}",
                f"--hostname-override={self.name}",
                f"--node-labels={labels}",
            ],
        )

    def ctr(self) -> list[str]:
        return ["ctr", "-a", SOCKET, "-n", "k8s.io"]

    def import_archive(self, archive: Path) -> None:
        """An OCI or docker-save archive into the running node."""
        try:
            import_archive([*self.machine.enter(), *self.ctr()], archive)
        except LocalError as error:
            raise LocalError(f"{self.name}: {error}") from error

    def images(self) -> dict[str, str]:
        """The names of the images that the running node holds whole, with the digest that each stands for."""
        # Not `images list`: an image whose import was interrupted has its name already.
        lines = self.machine.run([*self.ctr(), "images", "check"], check=False).splitlines()[1:]
        return {name: digest for name, _, digest, state, *_, unpacked in map(str.split, lines) if (state, unpacked) == _WHOLE}

    def _containerd(self) -> str:
        return f"""version = 2
root = '{self.machine.folder}/containerd'
state = '/run/containerd'
[grpc]
  address = '{SOCKET}'
[plugins.'io.containerd.internal.v1.opt']
  path = '{self.machine.folder}/opt'
[plugins.'io.containerd.grpc.v1.cri']
  sandbox_image = '{oci.PAUSE}'
  # Without CAP_SYS_RESOURCE (containers, some CI machines) a score cannot be lowered, only kept.
  restrict_oom_score_adj = true
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins.'io.containerd.grpc.v1.cri'.cni]
  bin_dir = '{plugin_folder()}'
  conf_dir = '{self.machine.folder}/etc/cni'
"""

    def _network(self) -> dict[str, object]:
        # No portmap: Debian's 1.1.1 knows iptables only, and nothing here uses host ports.
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"{self.machine.folder}/ipam",
                "ranges": [[{"subnet": self.pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        return {"cniVersion": "1.0.0", "name": "penstock", "plugins": [bridge]}

    def _kubelet(self, authority: Authority) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            **cgroups.kubelet_settings(cgroups.version()),
            "cgroupRoot": f"/{self._cgroup_root}/{self.name}",
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "address": self.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.path("ca.crt"))},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(authority.path(f"{self.name}-serving.crt")),
            "tlsPrivateKeyFile": str(authority.path(f"{self.name}-serving.key")),
            "clusterDNS": ["10.96.0.10"],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{self.machine.folder}/etc/resolv.conf",
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 4 if self._quick_failure else 40,
            # The defaults are percentages of the whole disk: a fairly full disk would evict everything.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1Gi",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1Gi",
                "imagefs.inodesFree": "1%",
            },
            # Images that no registry holds must not be collected.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "volumePluginDir": f"{self.machine.folder}/volume-plugins",
            "serializeImagePulls": False,
            "maxPods": 200,
        }


def kube_proxy_config(kubeconfig: Path, hostname: str) -> dict[str, object]:
    """nftables, and the machine's conntrack limits left as they are."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": hostname,
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
