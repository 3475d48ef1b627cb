"""The operator as a process with the identity, the environment and the rights of the Deployment in the cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.manifests.tools import Tools, until

from penstock_local.controlplane import free_ports


def environment(tools: Tools, namespace: str) -> dict[str, str]:
    """What the Deployment gives its container, with the references resolved as a kubelet would."""
    deployment = tools.get("deployment", "penstock-operator", "-n", namespace)
    fields = {"metadata.name": "penstock-operator-0", "metadata.namespace": namespace}
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return {
        each["name"]: each["value"] if "value" in each else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in variables
    }


def kubeconfig(tools: Tools, namespace: str, path: Path) -> Path:
    """Admin's cluster, the service account's token."""
    config: dict[str, Any] = yaml.safe_load(tools.kubeconfig.read_text())
    token = tools.kubectl("create", "token", "penstock-operator", "-n", namespace).strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def operator(tools: Tools, namespace: str, folder: Path, more: Mapping[str, str] | None = None) -> Iterator[Callable[[], str]]:
    """Run it until it leads, with `more` variables; gives a function that returns its log. On leaving it must end by SIGTERM
    with 0."""
    variables = environment(tools, namespace) | {
        "KUBECONFIG": str(kubeconfig(tools, namespace, folder / "kubeconfig")),
        "PENSTOCK_LISTEN_HOST": "127.0.0.1",
        "PENSTOCK_LISTEN_PORT": str(free_ports(1)[0]),
        **(more or {}),
    }
    log = folder / "operator.log"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", "penstock_operator"], env=variables, stdout=output, stderr=output)
        try:
            until(lambda: "leading as penstock-operator-0" in log.read_text(), log.read_text)
            yield log.read_text
            process.terminate()
            assert process.wait(timeout=10) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
