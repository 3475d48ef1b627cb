"""Parameters that cannot work are refused by name before anything is started; and a run's name holds its parameters."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest
from tests.api.cluster import now
from tests.components.conftest import CALL
from tests.components.played import Played
from tests.pipelines.conftest import label
from tests.pipelines.player import API

from penstock_components import s3, waiting
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube
from penstock_local.aws import FakeAWS
from penstock_pipelines.check_parameters import parameters as checking
from penstock_pipelines.check_parameters.component import check_parameters
from penstock_pipelines.check_parameters.parameters import Parameters, start
from penstock_pipelines.end_to_end import end_to_end
from penstock_pipelines.training_ground import volume

SUBNET = {"subnetId": "subnet-01234567"}
EFA = {"deploymentType": "Persistent2", "throughputPerTiB": 125.0, "efa": True}
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
    new = s3.join(parameters["manifest_uri"].rpartition("/")[0], "new")
    s3.write(f"{new}/deep/shard-00000.tar", b"shard")
    other = start(wanted(parameters, run="", labelling_job="animals", new_data_uri=new))
    assert (other.run_id, other.labelling_job, other.predict_uri) == ("1", "animals", new)
    assert start(wanted(parameters, run="third", new_data_uri=f"{new}/deep/shard-00000.tar")).run_id == "third"


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
        ({"volume": {"create": "here"}}, r"volume: .*spec\.create"),
        ({"volume": {"create": {"subnetId": "here"}}}, r"volume: .*spec\.create\.subnetId: .*\"here\""),
        (
            {"volume": {"create": {**SUBNET, "deploymentType": "Scratch1"}}},
            r"volume: .*deploymentType: .*Scratch1",
        ),
        (
            {"volume": {"create": {**SUBNET, "throughputPerTiB": 125.0}}},
            "volume: .*is required for Persistent2",
        ),
        ({"volume": {"create": {**SUBNET, "storageCapacityGiB": 1500.0}}}, r"volume: .*storageCapacityGiB: .*multiple of 2400"),
        (
            {"volume": {"create": {**SUBNET, **EFA, "storageCapacityGiB": 2400.0}}},
            "volume: .*with efa, storageCapa",
        ),
        (
            {"volume": {"create": {**SUBNET, "securityGroup": "sg-1"}}},
            r"volume: .*unknown field \"spec\.create\.securityGroup\"",
        ),
        ({"volume": {"fileSystemId": "fs-1"}}, r"volume: .*spec\.fileSystemId: .*\"fs-1\""),
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
        ({"baseline_uri": "s3://nowhere/metrics.json"}, "baseline_uri: bucket 'nowhere': there is no such bucket"),
        ({"baseline_uri": "{bucket}-ireland/metrics.json"}, r"baseline_uri: .* is in eu-west-1, this run in us-east-1"),
        ({"baseline_uri": "{bucket}/input.manifest"}, "baseline_uri: .*input.manifest holds no metrics"),
        ({"new_data_uri": "/new"}, "new_data_uri: '/new'"),
        ({"new_data_uri": "s3://nowhere/new"}, "new_data_uri: bucket 'nowhere': there is no such bucket"),
        ({"new_data_uri": "{bucket}-ireland/new"}, "new_data_uri: .* is in eu-west-1, this run in us-east-1"),
        ({"new_data_uri": "{bucket}/images"}, r"new_data_uri: .*/images: no \.tar shards there"),
        ({"new_data_uri": "{bucket}/gone.tar"}, r"new_data_uri: .*/gone.tar: no \.tar shards there"),
        ({"trainer_image": "penstock/trainer"}, "trainer_image is 'penstock/trainer'; give a tag"),
        ({"serving_image": "penstock/serving:latest"}, "serving_image is 'penstock/serving:latest'; give a tag"),
        ({"run": "a/b"}, "run is 'a/b'"),
    ],
)
def test_a_bad_parameter_is_refused_by_name_and_starts_nothing(
    changes: dict[str, Any], message: str, parameters: dict[str, Any], bucket: str, aws: FakeAWS
) -> None:
    there = f"{s3.parse(bucket)[0]}-ireland"
    aws.client("s3").create_bucket(Bucket=there, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    changes = {key: value.replace("{bucket}", bucket) if isinstance(value, str) else value for key, value in changes.items()}
    with pytest.raises(ComponentError, match=message) as caught:
        start(wanted(parameters, **changes))
    assert str(caught.value).startswith("nothing was started, 1 parameter is wrong:"), caught.value
    assert not list(s3.objects(parameters["output_uri"]))


def test_all_problems_come_at_once(parameters: dict[str, Any]) -> None:
    with pytest.raises(ComponentError, match="3 parameters are wrong") as caught:
        start(wanted(parameters, epochs=0, endpoint="A", title=""))
    assert all(name in str(caught.value) for name in ("epochs", "endpoint", "title"))


def test_a_volume_that_is_there_already_is_no_fault(cluster: Played, parameters: dict[str, Any]) -> None:
    run_uri = s3.join(parameters["output_uri"], "first")
    Kube(cluster.namespace).create(volume.build(run_uri, f"{run_uri}/dataset", f"{run_uri}/model", parameters["volume"]))
    assert start(wanted(parameters)).run_id == "first"


def test_a_baseline_may_be_there_or_come_later(parameters: dict[str, Any], bucket: str) -> None:
    asked = wanted(parameters, baseline_uri=f"{bucket}/best/metrics.json")
    start(asked)
    s3.write(asked.baseline_uri, b'{"metrics": {"accuracy": 0.9}}')
    start(asked)
    s3.write(asked.baseline_uri, b'{"metrics": {"loss": 0.9}}')
    with pytest.raises(ComponentError, match=r"baseline_uri: .*no metric 'accuracy'"):
        start(asked)


@pytest.mark.parametrize(
    ("service", "action", "code"),
    [
        ("s3", "GetObject", "SlowDown"),
        ("s3", "HeadBucket", "ServiceUnavailable"),
        ("s3", "PutObject", "InternalError"),
        ("sagemaker", "DescribeWorkteam", "ThrottlingException"),
        ("sagemaker", "DescribeLabelingJob", "InternalFailure"),
    ],
)
def test_an_outage_of_aws_is_waited_out_and_blamed_on_no_parameter(
    service: str,
    action: str,
    code: str,
    parameters: dict[str, Any],
    aws: FakeAWS,
    no_backoff: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(checking, "EVERY", 0.1)
    aws.control.fault(service, action, code, status=503, times=CALL)
    assert start(wanted(parameters)).run_id == "first"
    assert "no answer, asking again" in caplog.text
    monkeypatch.setattr(checking, "OUTAGE_SECONDS", 0.5)
    aws.control.fault(service, action, code, status=503, times=10_000)
    with pytest.raises(waiting.Overdue, match="never answered; the last answer: "):
        start(wanted(parameters, run="second"))


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
