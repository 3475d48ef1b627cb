"""Command lines of the control plane's components: one place for tests on loopback and for whole clusters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the control plane listens."""

    address: str
    port: int
    etcd_port: int

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.port}"


def etcd(binaries: Path, folder: Path, at: Endpoint) -> list[str]:
    client, peer = f"http://127.0.0.1:{at.etcd_port}", f"http://127.0.0.1:{at.etcd_port + 1}"
    return [
        f"{binaries}/etcd",
        "--name=local",
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",  # a cluster for demos and tests may lose its last second with the machine's power
        "--log-level=warn",
    ]


def kube_apiserver(binaries: Path, pki: Path, at: Endpoint, extra: tuple[str, ...] = ()) -> list[str]:
    # A loopback address cannot be an endpoint of the kubernetes Service.
    reconciler = ["--endpoint-reconciler-type=none"] if at.address == "127.0.0.1" else [f"--advertise-address={at.address}"]
    return [
        f"{binaries}/kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{at.etcd_port}",
        f"--bind-address={at.address}",
        f"--secure-port={at.port}",
        *reconciler,
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        *extra,
    ]


def kube_controller_manager(binaries: Path, pki: Path, extra: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{binaries}/kube-controller-manager",
        f"--kubeconfig={pki}/controller-manager.kubeconfig",
        f"--authentication-kubeconfig={pki}/controller-manager.kubeconfig",
        f"--authorization-kubeconfig={pki}/controller-manager.kubeconfig",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        f"--cluster-cidr={POD_RANGE}",
        "--allocate-node-cidrs=false",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        # The default of 20 requests a second makes deleting 500 owned pods take 24 s instead of 1.6 s.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        *extra,
    ]


def kube_scheduler(binaries: Path, pki: Path) -> list[str]:
    config = f"{pki}/scheduler.kubeconfig"
    return [
        f"{binaries}/kube-scheduler",
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--secure-port=0",
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]
