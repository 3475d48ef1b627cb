"""kubectl and helm against one kubeconfig, for the demo and the end-to-end tests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock_local import binaries, paths
from penstock_local.errors import LocalError

OPERATOR_NAMESPACE, OPERATOR_ACCOUNT = "penstock-system", "penstock-operator"
_RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster; `kubeconfig` None means the current context of the user's own configuration."""

    kubeconfig: Path | None

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self._run("kubectl", arguments, stdin, check)

    def helm(self, *arguments: str) -> str:
        return self._run("helm", arguments, None, True)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """An object, or None when it is not there."""
        text = self.kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found

    def namespace(self, name: str) -> None:
        """Make a namespace that takes only restricted pods; no effect when it is there."""
        text = self.kubectl("create", "namespace", name, "--dry-run=client", "-o", "yaml")
        self.kubectl("apply", "-f", "-", stdin=text)
        self.kubectl("label", "namespace", name, _RESTRICTED, "--overwrite")

    def install_operator(self, *, values: Sequence[str] = (), wait: bool = True) -> None:
        """Install or upgrade Penstock by its chart, in a restricted namespace. `values`: `key=value` for --set."""
        self.namespace(OPERATOR_NAMESPACE)
        chart = str(paths.checkout() / "helm/penstock")
        command = ["upgrade", "--install", "penstock", chart, "--namespace", OPERATOR_NAMESPACE]
        self.helm(*command, *(part for one in values for part in ("--set", one)))
        if wait:
            self.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/penstock-operator", "--timeout=120s")

    def _run(self, program: str, arguments: Sequence[str], stdin: str | None, check: bool) -> str:
        config = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        command = [str(binaries.ensure((program,)) / program), *config, *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if check and result.returncode != 0:
            raise LocalError(f"{program} {' '.join(arguments)[:160]}: {result.stderr.strip() or result.stdout.strip()}")
        return result.stdout
