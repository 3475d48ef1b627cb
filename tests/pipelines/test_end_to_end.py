"""The whole pipeline in kfp's local runner: real steps, a real API server, the fake AWS; nodes and operator are played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import components
from tests.components.played import Played
from tests.pipelines.player import API, Player, objects

from penstock_components import s3
from penstock_local.aws import FakeAWS
from penstock_pipelines import compile as compiling
from penstock_pipelines.end_to_end import end_to_end
from penstock_pipelines.run import volume as volume_name

# kfp warns that resources mean nothing to its local runner.
pytestmark = pytest.mark.filterwarnings("ignore:Task .* have no effect in the current local runner")

JOBS = "/apis/batch/v1/namespaces/{namespace}/jobs"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{namespace}/deployments"
SERVICES = "/api/v1/namespaces/{namespace}/services"
BEFORE_THE_GATE = [
    "check-parameters",
    "clean-up",
    "consolidate-labels",
    "evaluate",
    "gate",
    "ground-truth-labelling",
    "split-and-preprocess",
    "train",
    "training-ground",
]


def ran(outputs: Path) -> list[str]:
    """Names of the tasks that have an output, sorted."""
    return sorted(path.parent.name for path in outputs.rglob("executor_output.json"))


def output(outputs: Path, task: str) -> dict[str, Any]:
    (path,) = outputs.rglob(f"{task}/executor_output.json")
    found: dict[str, Any] = json.loads(path.read_text())["parameterValues"]
    return found


def read(parameters: dict[str, Any], path: str) -> Any:
    return json.loads(s3.read(s3.join(parameters["output_uri"], path)))


def nothing_runs(cluster: Played, aws: FakeAWS) -> None:
    """No job is under way, no volume is left, no deployment is without its Service."""
    assert objects(cluster, f"{API}/lustrevolumes") == []
    for path in (f"{API}/trainingjobs", JOBS):
        for job in objects(cluster, path):
            kinds = {each["type"] for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"}
            assert kinds & {"Complete", "Failed"}, job
    services = [each["spec"].get("selector") for each in objects(cluster, SERVICES)]
    for deployment in objects(cluster, DEPLOYMENTS):
        assert deployment["spec"]["selector"]["matchLabels"] in services
    summaries = aws.client("sagemaker").list_labeling_jobs()["LabelingJobSummaryList"]
    assert {each["LabelingJobStatus"] for each in summaries} <= {"Completed", "Failed", "Stopped", "Stopping"}


def test_a_good_model_is_deployed_and_told_on_one_page(
    cluster: Played, player: Player, parameters: dict[str, Any], aws: FakeAWS, kfp_local: Path
) -> None:
    end_to_end(**parameters)
    assert ran(kfp_local) == sorted([*BEFORE_THE_GATE, "deploy", "predict", "report"])
    assert output(kfp_local, "deploy")["endpoint_url"] == f"http://animals.{cluster.namespace}.svc.cluster.local"
    assert sum(output(kfp_local, "predict")["counts"].values()) == output(kfp_local, "split-and-preprocess")["test_samples"]
    (job,) = objects(cluster, f"{API}/trainingjobs")
    assert job["spec"]["workers"]["replicas"] == 2
    assert job["spec"]["command"][:2] == ["python", "/opt/penstock/program/train_images.py"]
    (config,) = (each["configMap"]["name"] for each in job["spec"]["volumes"] if "configMap" in each)
    program = cluster.call("GET", f"/api/v1/namespaces/{{namespace}}/configmaps/{config}")
    assert "def main() -> int:" in program["data"]["train_images.py"]
    page = s3.read(s3.join(parameters["output_uri"], "first", "report.html")).decode()
    for heading in ("Labels", "Data", "Training", "Test", "Endpoint", "Where the time went"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/svg+xml") == 2
    assert job["spec"]["workers"]["resources"]["limits"] == {"memory": "4Gi"}
    for row in ("labelling", "making the file system", "training", "evaluation", "deployment", "prediction"):
        assert f"<td>{row}</td>" in page
    assert f"http://animals.{cluster.namespace}.svc" in page
    ended = read(parameters, "first/end.json")
    assert (ended["state"], ended["problems"]) == ("SUCCEEDED", [])
    assert ended["stopped"] == [f"LustreVolume {volume_name(s3.join(parameters['output_uri'], 'first'))} is deleted"]
    nothing_runs(cluster, aws)


def test_a_model_that_is_not_good_enough_is_held_back(
    cluster: Played, player: Player, parameters: dict[str, Any], aws: FakeAWS, kfp_local: Path, prepared_steps: None
) -> None:
    player.right = False
    end_to_end(**parameters)
    assert ran(kfp_local) == sorted([*BEFORE_THE_GATE, "report-2"])
    assert objects(cluster, DEPLOYMENTS) == objects(cluster, f"{API}/lustrevolumes") == []
    assert len(objects(cluster, JOBS)) == 1
    page = s3.read(s3.join(parameters["output_uri"], "first", "report.html")).decode()
    assert "The gate held the model back" in page
    assert read(parameters, "first/end.json")["state"] == "SUCCEEDED"
    nothing_runs(cluster, aws)


def test_a_run_that_is_started_again_from_the_yaml_starts_nothing_anew(
    cluster: Played, player: Player, parameters: dict[str, Any], aws: FakeAWS, kfp_local: Path, prepared_steps: None
) -> None:
    run = components.load_component_from_file(str(compiling.FOLDER / "end_to_end.yaml"))
    run(**parameters)
    assert player.kinds() == ["Deployment", "Job", "Job", "LustreVolume", "TrainingJob"]
    before, first = dict(player.made), ran(kfp_local)
    run(**parameters)
    assert player.made == before
    assert ran(kfp_local) == sorted([*first, *first])
    assert len(aws.control.calls("sagemaker", "CreateLabelingJob")) == 1
    assert read(parameters, "first/end.json")["stopped"] == []


def test_another_run_may_share_the_labels_and_nothing_else(
    cluster: Played, player: Player, parameters: dict[str, Any], aws: FakeAWS, kfp_local: Path, prepared_steps: None
) -> None:
    player.right = False
    end_to_end(**parameters, labelling_job="animals")
    end_to_end(**{**parameters, "run": "second"}, labelling_job="animals")
    assert player.kinds() == ["Job", "Job", "LustreVolume", "LustreVolume", "TrainingJob", "TrainingJob"]
    assert len(aws.control.calls("sagemaker", "CreateLabelingJob")) == 1
