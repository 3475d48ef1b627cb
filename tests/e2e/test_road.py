"""The whole road on real nodes: `make demo-pipeline`, and the same run again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ring_cluster import bring_up, cluster

from penstock_local import paths
from penstock_local.aws.client import Control
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
