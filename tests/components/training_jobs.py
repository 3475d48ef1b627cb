"""TrainingJobs of the tests: what is wanted, what the operator says of it, and the model that it leaves."""

from __future__ import annotations

import json
from typing import Any

from tests.api.cluster import now, until
from tests.components.played import Played

from penstock_components import s3
from penstock_components.training.train.request import Training


def wanted(cluster: Played, bucket: str, **more: Any) -> Training:
    given = {"image": "none", "command": ["train"], "workers": 2, "run_id": "run-1", "namespace": cluster.namespace, **more}
    return Training(model_uri=f"{bucket}/model", **given)


def export(uri: str, size: int = 1000, **metrics: float) -> None:
    """As a training program and FSx: the model, then what describes it."""
    s3.write(f"{uri}/model.pt2", b"m" * size)
    about = {"model": "model.pt2", "bytes": size, "sha256": "0" * 64, "metrics": metrics}
    s3.write(f"{uri}/model.json", json.dumps(about).encode())


def the_job(cluster: Played) -> str:
    until(cluster.jobs, lambda: "no TrainingJob")
    (name,) = cluster.jobs()
    return name


def failed(**failure: Any) -> dict[str, Any]:
    conditions = [true("Failed", "ProgramFailed", "exit code 3")]
    return {"phase": "Failed", "reason": "ProgramFailed", "conditions": conditions, "failure": failure}


def true(kind: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}


def report(step: int, loss: float) -> dict[str, Any]:
    given = {"step": step, "totalSteps": 100, "percent": step, "etaSeconds": 190, "samplesPerSecond": 950.0}
    return {**given, "metrics": {"loss": loss}}
