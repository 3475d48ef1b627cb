"""The whole road on real nodes: `make demo-pipeline`, and the same run again."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest
import yaml
from tests.e2e.bucket import Bucket
from tests.e2e.ring_cluster import Space, cluster

from penstock_local import images, paths
from penstock_local.aws.client import Control
from penstock_local.seeds import Archive
from penstock_local.tools import Target

pytestmark = pytest.mark.e2e

NAMESPACE = "demo-pipeline"


def walk(run: str = "") -> str:
    """What the demo prints."""
    python = paths.checkout() / ".venv-pipelines" / "bin" / "python"
    environment = {**os.environ, "PENSTOCK_CLUSTER": cluster().name, "RUN": run}
    command = [str(python), "-m", "penstock_pipelines.demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def remote(target: Target) -> set[str]:
    """Uids of all that runs or ran in the cluster."""
    listed = json.loads(target.kubectl("-n", NAMESPACE, "get", "tj,lvol,jobs,deployments,services", "-o", "json"))["items"]
    return {each["metadata"]["uid"] for each in listed}


def made(aws: Control) -> list[dict[str, Any]]:
    """Calls since they were last forgotten (the fake AWS keeps the newest only) that begin what costs money."""
    return [
        each for each in aws.calls() if each["action"] in {"CreateLabelingJob", "CreateFileSystem", "CreateDataRepositoryTask"}
    ]


def test_unlabelled_digits_become_a_served_model_and_a_second_run_starts_nothing(target: Target) -> None:
    target.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")  # what a run that was killed has left
    aws = Control(cluster().aws_environment()["AWS_ENDPOINT_URL"])
    aws.forget_calls()
    first = walk()
    (accuracy,) = re.findall(r"held-out digits against the truth: (\d\.\d+)", first)
    assert float(accuracy) >= 0.95
    by_majority, consolidated = map(float, re.findall(r"right: (\d\.\d+) by majority vote, (\d\.\d+) by Dawid", first)[0])
    assert consolidated > by_majority
    (name,) = set(re.findall(r"RUN=(\S+) make", first))
    page = paths.checkout() / "build" / "demo-pipeline" / name / "report.html"
    assert "<h2>Endpoint</h2>" in page.read_text()
    assert target.kubectl("-n", NAMESPACE, "get", "lvol", "-o", "name") == ""
    assert len(made(aws)) >= 2
    aws.forget_calls()
    before = remote(target)
    again = walk(name)
    assert made(aws) == []
    assert remote(target) == before
    assert f"against the truth: {accuracy}" in again
    target.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_step_runs_in_its_image_as_kubeflow_starts_it(space: Space) -> None:
    cluster().load_image("components", Archive(images.archive("components"), images.digest("components")))
    space.kubectl("create", "serviceaccount", "steps")
    cluster().associate(space.name, "steps")
    compiled, _ = yaml.safe_load_all((paths.checkout() / "pipelines" / "end_to_end.yaml").read_text())
    container = compiled["deploymentSpec"]["executors"]["exec-gate"]["container"]
    metrics = Bucket().write("metrics.json", json.dumps({"metrics": {"accuracy": 0.93}}).encode())
    given = {"metrics_uri": metrics, "threshold": 0.9, "metric": "accuracy", "baseline_uri": ""}
    outputs = {"parameters": {"Output": {"outputFile": "/tmp/out"}}, "outputFile": "/dev/termination-log"}
    told = json.dumps({"inputs": {"parameterValues": given}, "outputs": outputs})
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "gate"},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "steps",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": container["image"],
                    "command": container["command"],
                    "args": [told if each == "{{$}}" else each for each in container["args"]],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    space.apply(body)
    ended = ("Succeeded", "Failed")
    space.wait("the step ends", lambda: (space.target.get("pod", "gate", space.name) or {})["status"].get("phase") in ended)
    status = (space.target.get("pod", "gate", space.name) or {})["status"]
    assert status["phase"] == "Succeeded", space.logs("gate")
    said = json.loads(status["containerStatuses"][0]["state"]["terminated"]["message"])
    assert said["parameterValues"] == {"Output": True}
