"""A real cluster with the operator installed by its chart, and one restricted namespace for each test.

The cluster stays up when the tests are over, so that the next run starts in seconds (`penstock local down --name e2e` removes
it). PENSTOCK_E2E_CLUSTER names another one.
"""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from tests.api.cluster import JOBS, PODS
from tests.api.cluster import Cluster as Api
from tests.machine import alone

from penstock_local import images
from penstock_local.cluster import Cluster, Config
from penstock_local.seeds import Archive
from penstock_local.steps import Steps
from penstock_local.tools import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Target

TRAINER, MPICH = "penstock/trainer:0.1.0", "penstock/mpich-test:0.1.0"


@functools.cache
def cluster() -> Cluster:
    return Cluster(os.environ.get("PENSTOCK_E2E_CLUSTER", "e2e"))


@functools.cache
def bring_up() -> Target:
    """The cluster, its images and the operator as they are in this checkout; once for all tests of a run."""
    archives = {}
    for name in ("operator", "trainer", "mpich-test"):
        digest = images.digest(name)
        archives[name] = Archive(images.archive(name), digest)
    wanted = None if cluster().exists else Config(nodes=2, quick_failure=True)
    with alone():
        cluster().up(wanted, images=archives, aws=True, steps=Steps())
    cluster().associate(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
    target = Target(cluster().kubeconfig)
    digest = archives["operator"].digest
    # Refused pods are asked for again after 5 s instead of 30: two tests wait for that.
    target.install_operator(values=[f"podAnnotations.penstock\\.dev/image={digest}", "config.refusalRetrySeconds=5"])
    return target


class Space:
    """One namespace, and what tests do in it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.name = f"e2e-{uuid.uuid4().hex[:8]}"
        target.namespace(self.name)
        # What is asked again and again goes over one connection: a kubectl each time is a fifth of a core.
        self._api = Api(cluster().kubeconfig, self.name)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self.target.kubectl("-n", self.name, *arguments, stdin=stdin, check=check)

    def apply(self, body: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body))

    def run(self, name: str, script: str, **spec: Any) -> None:
        """Apply a job whose ranks run a bash script."""
        workers = {"replicas": 2, "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}} | spec.pop("workers", {})
        body = {"image": TRAINER, "command": ["bash", "-c", script], "workers": workers, **spec}
        self.apply({"apiVersion": "penstock.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": body})

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = (self._api.find(f"{JOBS}/{name}") or {}).get("status") or {}
        return status

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        return next((one for one in self.status(name).get("conditions", ()) if one["type"] == kind), {"status": "Absent"})

    def pods(self, selector: str = "") -> dict[str, dict[str, Any]]:
        query = urlencode({"labelSelector": selector or "penstock.dev/job-name"})
        return {one["metadata"]["name"]: one for one in self._api.call("GET", f"{PODS}?{query}")["items"]}

    def events(self) -> str:
        return self.kubectl(
            "get", "events", "--field-selector=involvedObject.kind=TrainingJob", "-o", "custom-columns=R:.reason,M:.message"
        )

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Poll until true; on time-out fail with everything one would ask for."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                operator = self.target.kubectl(
                    "-n", OPERATOR_NAMESPACE, "logs", "deployment/penstock-operator", "--tail=25", check=False
                )
                state = self.kubectl("get", "tj,pods", "-o", "wide", check=False)
                described = self.kubectl("describe", "tj", check=False)
                pytest.fail(f"not within {seconds:.0f} s: {what}\n{state}\n{described}\n{operator}")
            time.sleep(0.2)
        return found

    def wait_phase(self, name: str, *phases: str, seconds: float = 60.0) -> dict[str, Any]:
        self.wait(f"{name} is {' or '.join(phases)}", lambda: self.status(name).get("phase") in phases, seconds)
        return self.status(name)

    def logs(self, pod: str) -> str:
        """Without a word of mpirun's about nothing: on a busy machine its child has begun ssh before mpirun sets the child's
        process group (EACCES; the child has set it itself). Source: Open MPI 4.1, plm_rsh_module.c."""
        lines = self.kubectl("logs", pod).splitlines(keepends=True)
        return "".join(line for line in lines if "plm:rsh: Warning: setpgid(" not in line)

    def drop(self) -> None:
        self.kubectl("delete", "tj", "--all", "--wait=false", check=False)
        self.target.kubectl("delete", "namespace", self.name, "--wait=false", check=False)
        self._api.close()
