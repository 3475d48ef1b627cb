"""Certificates and kubeconfigs of one cluster: a CA, a front-proxy CA, and a leaf for each component."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from penstock_local.files import put

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_VALID = timedelta(days=3650)

# name -> (common name, organisation); the organisations are the groups RBAC knows.
CLIENTS = {
    "admin": ("kubernetes-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "pod-identity-agent": ("penstock:pod-identity-agent", ""),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
}


class Authority:
    """The PKI in `folder`; everything is made once and kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, addresses: Iterable[str]) -> None:
        """Make what the control plane needs. `addresses`: IPs the API server is reached at."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("ca", "front-proxy-ca"):
            if not self.path(f"{name}.crt").exists():
                self._authority(name)
        if not self.path("sa.key").exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            self._write_key("sa", key)
            public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            self.path("sa.pub").write_bytes(public)
        names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ]
        self.server("apiserver", "kube-apiserver", names, ["127.0.0.1", "10.96.0.1", *addresses])
        self._leaf("front-proxy-client", "front-proxy-client", "", authority="front-proxy-ca")
        for name, (common, organisation) in CLIENTS.items():
            self._leaf(name, common, organisation)

    def path(self, name: str) -> Path:
        return self.folder / name

    def server(self, name: str, common: str, names: Iterable[str], addresses: Iterable[str]) -> None:
        entries: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
        entries += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
        self._leaf(name, common, "", subject_names=entries)

    def kubelet(self, node: str, address: str) -> None:
        """The node's client identity and its serving certificate."""
        self._leaf(f"{node}-kubelet", f"system:node:{node}", "system:nodes")
        self.server(f"{node}-serving", node, [node], [address, "127.0.0.1"])

    def kubeconfig(self, name: str, server: str, target: Path | None = None) -> Path:
        """A kubeconfig for client `name` against `server`, with everything inline."""
        path = target or self.path(f"{name}.kubeconfig")
        user = {"client-certificate-data": self._inline(f"{name}.crt"), "client-key-data": self._inline(f"{name}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "local", "cluster": {"server": server, "certificate-authority-data": self._inline("ca.crt")}}
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "penstock-local", "context": {"cluster": "local", "user": name}}],
            "current-context": "penstock-local",
        }
        put(path, yaml.safe_dump(config, sort_keys=False), mode=0o600)
        return path

    def _inline(self, name: str) -> str:
        return base64.b64encode(self.path(name).read_bytes()).decode()

    def _authority(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"penstock-local-{name}")])
        builder = self._builder(subject, subject, key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
        self._write(name, key, builder.sign(key, hashes.SHA256()))

    def _leaf(
        self,
        name: str,
        common: str,
        organisation: str,
        *,
        authority: str = "ca",
        subject_names: list[x509.GeneralName] | None = None,
    ) -> None:
        if self.path(f"{name}.crt").exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
        if organisation:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
        signer_key = serialization.load_pem_private_key(self.path(f"{authority}.key").read_bytes(), None)
        signer = x509.load_pem_x509_certificate(self.path(f"{authority}.crt").read_bytes())
        assert isinstance(signer_key, ec.EllipticCurvePrivateKey)
        builder = self._builder(x509.Name(attributes), signer.subject, key)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if subject_names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if subject_names:
            builder = builder.add_extension(x509.SubjectAlternativeName(subject_names), critical=False)
        self._write(name, key, builder.sign(signer_key, hashes.SHA256()))

    @staticmethod
    def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + _VALID)

    def _write(self, name: str, key: Key, certificate: x509.Certificate) -> None:
        self._write_key(name, key)
        self.path(f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _write_key(self, name: str, key: Key) -> None:
        path = self.path(f"{name}.key")
        path.touch(mode=0o600)
        form = serialization.PrivateFormat.TraditionalOpenSSL
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
