"""Parameters that cannot work are refused by name before anything is started; and a run's name holds its parameters."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from tests.api.cluster import now
from tests.components.played import Played
from tests.pipelines.conftest import label
from tests.pipelines.player import API

from penstock_components import s3
from penstock_components.errors import ComponentError
from penstock_local.aws import FakeAWS
from penstock_pipelines.check_parameters.component import check_parameters
from penstock_pipelines.check_parameters.parameters import Parameters, start
from penstock_pipelines.end_to_end import end_to_end

DEFAULTS = {
    name: given.default
    for name, given in end_to_end.component_spec.inputs.items()
    if name in Parameters.__dataclass_fields__ and given.optional
}


def wanted(parameters: dict[str, Any], **more: Any) -> Parameters:
    given = {**DEFAULTS, "job_id": "1", **parameters, **more}
    return Parameters(**{name: given[name] for name in Parameters.__dataclass_fields__})


def test_good_parameters_name_the_run_and_start_nothing(parameters: dict[str, Any], aws: FakeAWS) -> None:
    started = start(wanted(parameters))
    assert started.run_uri == s3.join(parameters["output_uri"], "first")
    assert started.predict_uri == f"{started.run_uri}/dataset/test"
    assert aws.control.calls("sagemaker", "CreateLabelingJob") == []
    assert start(wanted(parameters)) == started
    other = start(wanted(parameters, run="", labelling_job="animals", new_data_uri="s3://b/new"))
    assert (other.run_id, other.labelling_job, other.predict_uri) == ("1", "animals", "s3://b/new")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest_uri": "input.manifest"}, "manifest_uri: 'input.manifest' is not an S3 URI"),
        ({"manifest_uri": "s3://nowhere/m"}, "manifest_uri: s3://nowhere/m: there is no such bucket"),
        ({"output_uri": "out"}, "output_uri: 'out' is not an S3 URI"),
        ({"output_uri": "s3://nowhere/out"}, "output_uri: bucket 'nowhere'"),
        ({"label_attribute": "an_animal"}, "label_attribute 'an_animal'"),
        ({"label_categories": ["cat"]}, "label_categories has 1"),
        ({"role_arn": "labelling"}, "role_arn 'labelling'"),
        (
            {"workteam_arn": "arn:aws:sagemaker:us-east-1:123456789012:workteam/private-crowd/none"},
            "workteam_arn: work team 'none'",
        ),
        ({"title": ""}, "title has 0 characters"),
        ({"description": "x" * 256}, "description has 256 characters"),
        ({"endpoint": "Animals"}, "endpoint is 'Animals'"),
        ({"replicas": 0}, "replicas is 0"),
        ({"volume": {}}, "volume has nothing"),
        ({"volume": {"create": {"subnetId": "here"}}}, "volume.create.subnetId is 'here'"),
        ({"volume": {"create": {"subnetId": "subnet-01234567", "deploymentType": "Scratch1"}}}, "deploymentType is 'Scratch1'"),
        (
            {"volume": {"create": {"subnetId": "subnet-01234567", "throughputPerTiB": 125.0}}},
            "throughputPerTiB is required for",
        ),
        ({"volume": {"create": {"subnetId": "subnet-01234567", "storageCapacityGiB": 1500.0}}}, "storageCapacityGiB is 1500"),
        ({"volume": {"fileSystemId": "fs-1"}}, "volume.fileSystemId is 'fs-1'"),
        ({"volume": {"fileSystemId": "fs-01234567", "repositories": []}}, "volume has repositories; allowed are"),
        ({"volume_name": "mine"}, "volume and volume_name are both given"),
        ({"volume": {}, "volume_name": "mine"}, "volume_name: there is no LustreVolume .*/mine"),
        ({"labelling_attempt": 0}, "labelling_attempt is 0"),
        ({"labelling_job": "a job"}, "labelling_job 'a job'"),
        ({"workers_per_object": 10}, "workers_per_object is 10"),
        ({"labelling_hours": 0.0}, "labelling_hours is 0"),
        ({"min_confidence": 1.5}, "min_confidence is 1.5"),
        ({"validation_fraction": 0.6, "test_fraction": 0.6}, "validation_fraction, test_fraction: .* together below 1"),
        ({"test_fraction": 0.0}, "test_fraction is 0"),
        ({"preprocess": "nothing:here"}, "preprocess: .*nothing:here"),
        ({"image_size": 4}, "image_size is 4"),
        ({"workers": 0}, "workers is 0"),
        (
            {"worker_resources": {"limits": {"memory": "much"}}},
            r"worker_resources: .*spec\.workers\.resources\.limits\[memory\]",
        ),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"training_hours": 100.0}, "training_hours is 100"),
        ({"model_minutes": 0.0}, "model_minutes is 0"),
        ({"poll_seconds": 0.0}, "poll_seconds is 0"),
        ({"serving_service_account": "nobody"}, "serving_service_account: there is no ServiceAccount .*/nobody"),
        ({"threshold": 95.0}, "threshold is 95"),
        ({"baseline_uri": "model.json"}, "baseline_uri: 'model.json'"),
        ({"new_data_uri": "/new"}, "new_data_uri: '/new'"),
        ({"trainer_image": "penstock/trainer"}, "trainer_image is 'penstock/trainer'; give a tag"),
        ({"serving_image": "penstock/serving:latest"}, "serving_image is 'penstock/serving:latest'; give a tag"),
        ({"run": "a/b"}, "run is 'a/b'"),
    ],
)
def test_a_bad_parameter_is_refused_by_name_and_starts_nothing(
    changes: dict[str, Any], message: str, parameters: dict[str, Any], aws: FakeAWS
) -> None:
    with pytest.raises(ComponentError, match=message) as caught:
        start(wanted(parameters, **changes))
    assert str(caught.value).startswith("nothing was started, 1 parameter is wrong:"), caught.value
    assert not list(s3.objects(parameters["output_uri"]))


def test_all_problems_come_at_once(parameters: dict[str, Any]) -> None:
    with pytest.raises(ComponentError, match="3 parameters are wrong") as caught:
        start(wanted(parameters, epochs=0, endpoint="A", title=""))
    assert all(name in str(caught.value) for name in ("epochs", "endpoint", "title"))


def test_a_cluster_without_penstock_is_told(parameters: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ComponentError, match="namespace: no way into Kubernetes"):
        start(wanted(parameters))


def test_a_run_of_the_same_name_must_be_asked_for_the_same(parameters: dict[str, Any]) -> None:
    start(wanted(parameters))
    start(wanted(parameters, training_hours=1.0, model_minutes=1.0, poll_seconds=1.0, labelling_attempt=2))
    with pytest.raises(ComponentError, match="epochs is 3, was 20"):
        start(wanted(parameters, epochs=3))
    start(wanted(parameters, epochs=3, run="second"))


def test_a_labelling_job_that_was_stopped_is_refused_with_a_way_on(parameters: dict[str, Any], aws: FakeAWS) -> None:
    aws.control.configure({"labelling": {"secondsPerObject": 3600}})
    first = start(wanted(parameters)).labelling_job
    label(parameters, aws, first)
    start(wanted(parameters))
    aws.client("sagemaker").stop_labeling_job(LabelingJobName=first)
    with pytest.raises(ComponentError, match=rf"{first} is Stopp\w+ .*labelling_attempt=2 asks people again"):
        start(wanted(parameters))
    assert start(wanted(parameters, labelling_attempt=2)).labelling_job == f"{first}-2"


def test_an_instance_type_is_asked_of_the_operator_and_gives_a_worker_its_node(
    cluster: Played, parameters: dict[str, Any]
) -> None:
    words: dict[str, str] = {"p4d.24xlrge": "found 'p4d.24xlrge', which the operator does not know"}

    def operator(mine: Played) -> None:
        for job in mine.call("GET", f"{API}/trainingjobs")["items"]:
            wrong = words.get(job["spec"]["workers"]["instanceType"], "")
            stalled = {"type": "Stalled", "status": str(bool(wrong)), "reason": "UnknownInstanceType", "message": wrong}
            conditions = [{**stalled, "lastTransitionTime": now()}]
            mine.training_status(job["metadata"]["name"], observedGeneration=1, phase="Suspended", conditions=conditions)

    with cluster.played(operator):
        with pytest.raises(ComponentError, match=r"instance_type, worker_resources: found 'p4d.24xlrge'"):
            start(wanted(parameters, instance_type="p4d.24xlrge"))
        assert start(wanted(parameters, instance_type="p4d.24xlarge")).worker_resources == {}
        assert cluster.jobs() == []


def test_a_named_volume_must_hold_both_folders_and_follow_them(cluster: Played, parameters: dict[str, Any]) -> None:
    def volume(name: str, *repositories: dict[str, Any]) -> None:
        spec = {"fileSystemId": "fs-0123456789abcdef0", "repositories": list(repositories)}
        body = {"apiVersion": "penstock.dev/v1alpha1", "kind": "LustreVolume", "metadata": {"name": name}, "spec": spec}
        cluster.call("POST", f"{API}/lustrevolumes", body)

    link = {"path": "/runs", "s3": f"{parameters['output_uri']}/"}
    volume("good", {**link, "importEvents": ["New"], "exportEvents": ["New", "Changed"]})
    volume("elsewhere", {**link, "s3": "s3://elsewhere/"})
    volume("silent", {**link, "importEvents": ["New"]})
    start(wanted(parameters, volume={}, volume_name="good"))
    for name, message in (("elsewhere", "links no prefix that holds"), ("silent", "has no exportEvents New")):
        with pytest.raises(ComponentError, match=f"volume_name: LustreVolume {name}.* {message}"):
            start(wanted(parameters, volume={}, volume_name=name, run=name))


def test_every_checked_parameter_is_one_of_the_pipeline() -> None:
    names = set(inspect.signature(check_parameters.python_func).parameters)
    assert names == set(Parameters.__dataclass_fields__)
    assert names - {"job_id"} <= set(end_to_end.component_spec.inputs)
