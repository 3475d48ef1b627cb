"""A run that fails, at each step: the exit handler runs and tells what happened, and nothing remote goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.components.played import Played
from tests.pipelines.conftest import label, to_label
from tests.pipelines.player import API, Player, objects
from tests.pipelines.test_end_to_end import DEPLOYMENTS, JOBS, nothing_runs, ran, read
from tests.pipelines.test_parameters import wanted as asked

from penstock_components import jobs, manifest, s3
from penstock_components.adoption import start
from penstock_components.deployment.deploy import request as serving
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube
from penstock_components.training.train.request import Training, build
from penstock_local.aws import FakeAWS
from penstock_pipelines.check_parameters.parameters import start as check
from penstock_pipelines.clean_up.ending import end
from penstock_pipelines.end_to_end import end_to_end
from penstock_pipelines.run import labelling_job
from penstock_pipelines.training_ground import volume

pytestmark = pytest.mark.filterwarnings("ignore:Task .* have no effect in the current local runner")

Break = Callable[[Player, FakeAWS, dict[str, Any]], None]


def remote(step: str) -> Break:
    """The step's remote part fails."""
    return lambda player, aws, parameters: player.fails.add(step)


def no_labelling(player: Player, aws: FakeAWS, parameters: dict[str, Any]) -> None:
    aws.control.fault("sagemaker", "CreateLabelingJob", "ResourceLimitExceeded", times=100)


def no_picture(player: Player, aws: FakeAWS, parameters: dict[str, Any]) -> None:
    lines = [dict(record.fields) for record in manifest.read(parameters["manifest_uri"])]
    lines[3][manifest.SOURCE] = s3.join(parameters["output_uri"], "0003.png")
    s3.write(lines[3][manifest.SOURCE], b"no picture", "image/png")
    to_label(aws, parameters["manifest_uri"], lines, parameters["workteam_arn"])


def no_metrics(player: Player, aws: FakeAWS, parameters: dict[str, Any]) -> None:
    # Not there when the parameters are checked, and no metrics when the gate reads it.
    parameters["baseline_uri"] = s3.join(parameters["output_uri"], "first", "labels", "consolidated.manifest")


@pytest.mark.parametrize(
    ("step", "spoil", "stays"),
    [
        ("ground-truth-labelling", no_labelling, []),
        ("split-and-preprocess", no_picture, []),
        ("training-ground", remote("training-ground"), ["LustreVolume"]),
        ("train", remote("train"), ["LustreVolume", "TrainingJob"]),
        ("evaluate", remote("evaluate"), ["Job", "LustreVolume", "TrainingJob"]),
        ("gate", no_metrics, ["Job", "LustreVolume", "TrainingJob"]),
        ("deploy", remote("deploy"), ["Deployment", "Job", "LustreVolume", "TrainingJob"]),
        ("predict", remote("predict"), ["Deployment", "Job", "Job", "LustreVolume", "TrainingJob"]),
    ],
)
def test_a_failed_step_ends_the_run_and_leaves_nothing_running(
    step: str,
    spoil: Break,
    stays: list[str],
    cluster: Played,
    player: Player,
    parameters: dict[str, Any],
    aws: FakeAWS,
    kfp_local: Path,
    prepared_steps: None,
    no_pauses: None,
) -> None:
    spoil(player, aws, parameters)
    with pytest.raises(RuntimeError, match=rf"Inner task failed: \S*'{step}'"):  # kfp colours it
        end_to_end(**parameters)
    tasks = ran(kfp_local)
    assert "clean-up" in tasks
    assert step not in tasks
    assert not any(task.startswith("report") for task in tasks)
    ended = read(parameters, "first/end.json")
    assert (ended["state"], ended["problems"]) == ("FAILED", [])
    # Every try that makes anew what had failed gives it the same name.
    assert sorted(each.partition(" ")[0] for each in {*player.made.values()}) == stays
    assert ("LustreVolume" in str(ended["stopped"])) == ("LustreVolume" in stays)
    nothing_runs(cluster, aws)


def test_a_run_whose_steps_were_killed_is_stopped_by_the_exit_handler(
    cluster: Played, parameters: dict[str, Any], aws: FakeAWS
) -> None:
    aws.control.configure({"labelling": {"secondsPerObject": 3600}})
    kube, model_uri = Kube(cluster.namespace), s3.join(parameters["output_uri"], "first", "model")
    begun(parameters)
    wishes = [
        volume.build(run_uri(parameters), "s3://data/d", "s3://data/m", parameters["volume"]),
        build(Training(model_uri=model_uri, image="none", command=["x"], run_id=run_uri(parameters))),
        build(Training(model_uri=model_uri, image="none", command=["x"], run_id="s3://b/out/first")),
        jobs.build("evaluate", run_uri(parameters), "none", ["x", "-m", "y"], env={}, resources={}),
        serving.deployment(serving.Serving(name="animals", model_uri=model_uri, image="none")),
        serving.deployment(serving.Serving(name="animals", model_uri="s3://b/another-runs", image="none")),
    ]
    owner = kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "service"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "service", "uid": owner["metadata"]["uid"]}
    owned = serving.deployment(serving.Serving(name="animals", model_uri=model_uri, image="none", replicas=2))
    owned["metadata"]["ownerReferences"] = [reference]
    wishes.append(owned)
    for wish in wishes:
        start(kube, wish, failed=lambda found: False)
    label(parameters, aws, labelling_job(parameters["output_uri"], "first", ""))
    wanted = {name: parameters[name] for name in ("output_uri", "endpoint", "run", "namespace")}
    ended = end("FAILED", "Task run failed.", job_id="1", poll_seconds=0.1, **wanted)
    kinds = [line.partition(" ")[0] for line in ended.stopped]
    assert kinds == ["labelling", "TrainingJob", "Job", "Deployment", "LustreVolume"]
    # What other runs made is theirs.
    (job,) = objects(cluster, f"{API}/trainingjobs")
    assert job["metadata"]["annotations"]["penstock.dev/run-id"] == "s3://b/out/first"
    # So is what belongs to something else, as KServe's Deployments do.
    left = {each["metadata"]["name"] for each in objects(cluster, DEPLOYMENTS)}
    assert left == {each["metadata"]["name"] for each in wishes[-2:]}
    assert objects(cluster, JOBS) == objects(cluster, f"{API}/lustrevolumes") == []
    assert end("FAILED", "", job_id="1", poll_seconds=0.1, **wanted).stopped == []


def test_a_service_that_does_not_answer_keeps_no_file_system_alive(
    cluster: Played, parameters: dict[str, Any], aws: FakeAWS
) -> None:
    begun(parameters)
    start(
        Kube(cluster.namespace),
        volume.build(run_uri(parameters), "s3://data/d", "s3://data/m", parameters["volume"]),
        lambda found: False,
    )
    aws.control.fault("sagemaker", "DescribeLabelingJob", "AccessDeniedException", "not allowed", times=100)
    wanted = {name: parameters[name] for name in ("output_uri", "endpoint", "run", "namespace")}
    with pytest.raises(ComponentError, match=r"may still be there[\s\S]*labelling job: .*not allowed"):
        end("FAILED", "", job_id="1", poll_seconds=0.1, **wanted)
    assert objects(cluster, f"{API}/lustrevolumes") == []
    assert "not allowed" in read(parameters, "first/end.json")["problems"][0]


def test_a_volume_that_does_not_go_is_told_with_its_conditions(
    cluster: Played, parameters: dict[str, Any], aws: FakeAWS
) -> None:
    begun(parameters)
    kube, wish = Kube(cluster.namespace), volume.build(run_uri(parameters), "s3://data/d", "s3://data/m", parameters["volume"])
    wish["metadata"]["finalizers"] = ["penstock.dev/close"]
    name = start(kube, wish, lambda found: False)["metadata"]["name"]
    condition = {"type": "Exported", "status": "False", "reason": "ExportFailed", "message": "2 files failed"}
    status = {
        "phase": "Deleting",
        "reason": "Exporting",
        "conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }
    cluster.call("PATCH", f"{API}/lustrevolumes/{name}/status", {"status": status})
    wanted = {name: parameters[name] for name in ("output_uri", "endpoint", "run", "namespace")}
    with pytest.raises(ComponentError, match=r"not gone, and its file system costs on: .*ExportFailed: 2 files failed"):
        end("SUCCEEDED", "", job_id="1", gone_minutes=0.01, poll_seconds=0.1, **wanted)
    cluster.call("PATCH", f"{API}/lustrevolumes/{name}", {"metadata": {"finalizers": None}})


def test_a_start_that_does_not_own_the_run_touches_nothing_of_it(
    cluster: Played, parameters: dict[str, Any], aws: FakeAWS
) -> None:
    begun(parameters)
    kube = Kube(cluster.namespace)
    start(kube, volume.build(run_uri(parameters), "s3://data/d", "s3://data/m", parameters["volume"]), lambda found: False)
    wanted = {name: parameters[name] for name in ("output_uri", "endpoint", "run", "namespace")}
    with pytest.raises(ComponentError, match="epochs is 3, was 20"):
        check(asked(parameters, epochs=3, job_id="2"))
    ended = end("FAILED", "refused", job_id="2", **wanted)
    assert (ended.stopped, ended.left_alone) == (
        [],
        f"{run_uri(parameters)} is the run of 1, not of 2: nothing of it was touched",
    )
    (found,) = objects(cluster, f"{API}/lustrevolumes")
    assert "deletionTimestamp" not in found["metadata"]
    assert not s3.exists(s3.join(run_uri(parameters), "end.json"))


def test_a_start_that_goes_on_takes_the_run_over(cluster: Played, parameters: dict[str, Any], aws: FakeAWS) -> None:
    begun(parameters)
    kube = Kube(cluster.namespace)
    start(kube, volume.build(run_uri(parameters), "s3://data/d", "s3://data/m", parameters["volume"]), lambda found: False)
    before = read(parameters, "first/run.json")
    check(asked(parameters, job_id="2"))
    after = read(parameters, "first/run.json")
    assert (before["owner"], after["owner"]) == ("1", "2")
    assert (after["started"], after["parameters"]) == (before["started"], before["parameters"])
    wanted = {name: parameters[name] for name in ("output_uri", "endpoint", "run", "namespace")}
    assert end("FAILED", "", job_id="1", **wanted).stopped == []
    assert len(end("SUCCEEDED", "", job_id="2", poll_seconds=0.1, **wanted).stopped) == 1
    assert read(parameters, "first/end.json")["job_id"] == "2"
    assert objects(cluster, f"{API}/lustrevolumes") == []
    # A step of the first start that was still under way makes what nobody else would end any more.
    start(kube, volume.build(run_uri(parameters), "s3://data/d", "s3://data/m", parameters["volume"]), lambda found: False)
    assert end("FAILED", "", job_id="3", **wanted).stopped == []
    assert len(end("FAILED", "", job_id="1", poll_seconds=0.1, **wanted).stopped) == 1
    assert read(parameters, "first/end.json")["state"] == "SUCCEEDED"


def test_a_run_that_was_refused_at_its_start_ends_without_touching_anything(parameters: dict[str, Any], aws: FakeAWS) -> None:
    wanted = {name: parameters[name] for name in ("output_uri", "endpoint", "run", "namespace")}
    assert "has made nothing" in end("FAILED", "", job_id="1", **wanted).left_alone
    assert "has made nothing" in end("FAILED", "", job_id="1", **{**wanted, "output_uri": "nowhere"}).left_alone
    assert not list(s3.objects(parameters["output_uri"]))


def test_runs_of_one_name_with_different_outputs_are_different_runs(
    cluster: Played, parameters: dict[str, Any], aws: FakeAWS
) -> None:
    other = {**parameters, "output_uri": s3.join(parameters["output_uri"], "other")}
    kube = Kube(cluster.namespace)
    for each in (parameters, other):
        begun(each)
        start(kube, volume.build(run_uri(each), "s3://data/d", "s3://data/m", each["volume"]), lambda found: False)
    wanted = {name: other[name] for name in ("output_uri", "endpoint", "run", "namespace")}
    assert len(end("FAILED", "", job_id="1", poll_seconds=0.1, **wanted).stopped) == 1
    (left,) = objects(cluster, f"{API}/lustrevolumes")
    assert left["metadata"]["annotations"]["penstock.dev/run-id"] == run_uri(parameters)


def run_uri(parameters: dict[str, Any]) -> str:
    return s3.join(parameters["output_uri"], parameters["run"])


def begun(parameters: dict[str, Any]) -> None:
    """The run's parameters were accepted; job 1 owns it."""
    check(asked(parameters))
