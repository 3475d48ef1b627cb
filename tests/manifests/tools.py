"""Real Helm and kubectl with one kubeconfig, for tests: each call returns what the program said, or raises with it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from penstock_local import binaries
from penstock_local.errors import LocalError

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/penstock"
NAMESPACE = "penstock-system"
CRD_NAME = "trainingjobs.penstock.dev"
CRD_NAMES = (CRD_NAME, "lustrevolumes.penstock.dev")

Object = dict[str, Any]


class Refused(LocalError):
    """The program ended with an error; the message is what it wrote. A LocalError, as a control plane's own kubectl raises."""


@dataclass(frozen=True)
class Tools:
    """Helm and kubectl of the project's own versions."""

    kubeconfig: Path
    folder: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self._run("kubectl", (f"--kubeconfig={self.kubeconfig}", *arguments), stdin)

    def helm(self, *arguments: str) -> str:
        return self._run("helm", arguments)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Object) -> None:
        """kubectl apply with strict validation, which is its default."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def namespace(self, name: str) -> None:
        """A namespace under Pod Security `restricted`."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def can(self, account: str, verb: str, resource: str, *arguments: str) -> bool:
        """Ask the API server's authorizer about a service account, `namespace:name`. A slash in `resource` is a name."""
        try:
            self.kubectl("auth", "can-i", verb, resource, f"--as=system:serviceaccount:{account}", *arguments)
        except Refused as answer:
            if str(answer).splitlines()[0] != "no":
                raise
            return False
        return True

    def render(self, *arguments: str) -> list[Object]:
        """`helm template` with these arguments, parsed."""
        text = self.helm("template", "penstock", str(CHART), f"--namespace={NAMESPACE}", *arguments)
        return [one for one in yaml.safe_load_all(text) if one]

    def _run(self, program: str, arguments: tuple[str, ...], stdin: str | None = None) -> str:
        home = {f"HELM_{kind}_HOME": str(self.folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        result = subprocess.run(
            [str(binaries.ensure((program,)) / program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
            env={**os.environ, **home, "KUBECONFIG": str(self.kubeconfig)},
        )
        if result.returncode != 0:
            raise Refused((result.stdout + result.stderr).strip())
        return result.stdout


def one(objects: list[Object], kind: str, name: str = "penstock-operator") -> Object:
    """The object of this kind and name."""
    [found] = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def until(condition: Callable[[], object], state: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition; after `seconds` fail with the state."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s; the state is:\n{state()}"
        time.sleep(0.1)
