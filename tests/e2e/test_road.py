"""The whole road on real nodes: `make demo-pipeline`, and the same run again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from ring_cluster import Space, bring_up, cluster

from penstock_local import images, paths
from penstock_local.aws.client import Control
from penstock_local.seeds import Archive
from penstock_local.tools import Target

pytestmark = pytest.mark.e2e

NAMESPACE = "demo-pipeline"


def walk(run: str = "") -> str:
    """What the demo prints."""
    python = paths.checkout() / ".venv-pipelines" / "bin" / "python"
    environment = {**os.environ, "PENSTOCK_DEMO_CLUSTER": cluster().name, "RUN": run}
    command = [str(python), "-m", "penstock_pipelines.demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def remote(target: Target) -> tuple[set[str], list[dict[str, Any]]]:
    """Uids of all that runs or ran in the cluster, and what was made in AWS."""
    listed = json.loads(target.kubectl("-n", NAMESPACE, "get", "tj,lvol,jobs,deployments,services", "-o", "json"))["items"]
    calls = Control(cluster().aws_environment()["AWS_ENDPOINT_URL"]).calls()
    made = [call for call in calls if call["action"] in {"CreateLabelingJob", "CreateFileSystem", "CreateDataRepositoryTask"}]
    return {each["metadata"]["uid"] for each in listed}, made


def test_unlabelled_digits_become_a_served_model_and_a_second_run_starts_nothing() -> None:
    target = bring_up()
    first = walk()
    (accuracy,) = re.findall(r"held-out digits against the truth: (\d\.\d+)", first)
    assert float(accuracy) >= 0.95
    by_majority, consolidated = map(float, re.findall(r"right: (\d\.\d+) by majority vote, (\d\.\d+) by Dawid", first)[0])
    assert consolidated > by_majority
    (name,) = set(re.findall(r"RUN=(\S+) make", first))
    page = paths.checkout() / "build" / "demo-pipeline" / name / "report.html"
    assert "<h2>Endpoint</h2>" in page.read_text()
    assert target.kubectl("-n", NAMESPACE, "get", "lvol", "-o", "name") == ""
    before = remote(target)
    assert len(before[1]) >= 2
    again = walk(name)
    assert remote(target) == before
    assert f"against the truth: {accuracy}" in again
    target.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_step_runs_in_its_image_as_kubeflow_starts_it() -> None:
    space = Space(bring_up())
    cluster().load_image("components", Archive(images.archive("components"), images.digest("components")))
    space.kubectl("create", "serviceaccount", "steps")
    cluster().associate(space.name, "steps")
    compiled = yaml.safe_load((paths.checkout() / "pipelines" / "end_to_end.yaml").read_text())
    container = compiled["deploymentSpec"]["executors"]["exec-gate"]["container"]
    given = {"metrics_uri": f"s3://{_bucket(space)}/metrics.json", "threshold": 0.9, "metric": "accuracy", "baseline_uri": ""}
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
    space.drop()


def _bucket(space: Space) -> str:
    """A bucket of the fake AWS with the metrics of a good model."""
    given = space.environment
    s3 = boto3.client(
        "s3",
        endpoint_url=given["AWS_ENDPOINT_URL"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        region_name=given["AWS_REGION"],
    )
    s3.create_bucket(Bucket=space.name)
    s3.put_object(Bucket=space.name, Key="metrics.json", Body=json.dumps({"metrics": {"accuracy": 0.93}}).encode())
    return space.name
