"""Where the API server is and how to prove who we are: the pod's service account, or a kubeconfig outside a cluster.

Both kopf's watches and our own client use this. The service-account token is read again from its file when the file changes
(the kubelet rotates it), so it is never used past its time.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class CredentialsError(RuntimeError):
    """No usable way to reach the API server; the message says what was looked for and what to do."""


@dataclass(slots=True)
class Credentials:
    """One API server and one identity."""

    server: str
    ca_data: bytes | None = None
    certificate_data: bytes | None = None
    key_data: bytes | None = None
    token_path: Path | None = None
    _token: str = ""
    _token_mtime: float = field(default=-1.0)

    def token(self) -> str:
        """The bearer token as it is now; empty for certificate identities. One stat per call, one read per rotation."""
        if self.token_path is not None:
            mtime = self.token_path.stat().st_mtime
            if mtime != self._token_mtime:
                self._token, self._token_mtime = self.token_path.read_text().strip(), mtime
        return self._token

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca_data.decode() if self.ca_data else None)
        if self.certificate_data and self.key_data:
            # OpenSSL loads client certificates from files only; they are gone again before this returns.
            with tempfile.TemporaryDirectory() as folder:
                certificate, key = Path(folder, "certificate"), Path(folder, "key")
                certificate.write_bytes(self.certificate_data)
                key.touch(mode=0o600)
                key.write_bytes(self.key_data)
                context.load_cert_chain(certificate, key)
        return context


def load(kubeconfig: str | None = None) -> Credentials:
    """The kubeconfig given or named by KUBECONFIG, else the pod's service account, else ~/.kube/config.

    Raises:
        CredentialsError: none of them is there, or the kubeconfig asks for something not supported here.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG")
    if path:
        return _from_kubeconfig(Path(path))
    if (_SERVICE_ACCOUNT / "token").exists():
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        host = f"[{host}]" if ":" in host else host
        return Credentials(
            server=f"https://{host}:{port}",
            ca_data=(_SERVICE_ACCOUNT / "ca.crt").read_bytes(),
            token_path=_SERVICE_ACCOUNT / "token",
        )
    default = Path.home() / ".kube/config"
    if default.exists():
        return _from_kubeconfig(default)
    raise CredentialsError("no API server: not in a pod, KUBECONFIG is not set and ~/.kube/config is not there")


def _from_kubeconfig(path: Path) -> Credentials:
    try:
        config: dict[str, Any] = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CredentialsError(f"kubeconfig {path}: {error}") from error
    try:
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
    except (KeyError, TypeError) as error:
        raise CredentialsError(f"kubeconfig {path}: no complete current-context ({error} is missing)") from error
    if "exec" in user or "auth-provider" in user:
        raise CredentialsError(
            f"kubeconfig {path}: user {context['user']!r} needs a plugin; use a token or certificate, or run in a pod"
        )
    found = Credentials(
        server=cluster["server"].rstrip("/"),
        ca_data=_data(cluster, "certificate-authority", path),
        certificate_data=_data(user, "client-certificate", path),
        key_data=_data(user, "client-key", path),
        token_path=path.parent / user["tokenFile"] if "tokenFile" in user else None,
    )
    found._token = user.get("token", "")
    return found


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise KeyError(name)


def _data(section: dict[str, Any], key: str, path: Path) -> bytes | None:
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return (path.parent / section[key]).read_bytes() if key in section else None
