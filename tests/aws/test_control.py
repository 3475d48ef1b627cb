"""Settings, faults and the call log."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config

from penstock_local.aws import ControlError, FakeAWS

Refused = Callable[..., dict[str, Any]]


def ids(fsx: Any) -> set[str]:
    pages = fsx.get_paginator("describe_file_systems").paginate()
    return {each["FileSystemId"] for page in pages for each in page["FileSystems"]}


def test_settings_change_while_it_runs_flat_or_by_service(aws: FakeAWS) -> None:
    assert aws.control.configure({"fsx.createSeconds": 7})["fsx.createSeconds"] == 7
    assert aws.control.configure({"fsx": {"createSeconds": 0.5}})["fsx.createSeconds"] == 0.5


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"fsx.createSecond": 1}, "no setting 'fsx.createSecond'; there are fsx.createSeconds, "),
        ({"fsx.createSeconds": -1}, "fsx.createSeconds is -1; give a number of seconds, 0 or more"),
        ({"fsx.createSeconds": "1"}, "fsx.createSeconds is '1'; give a number"),
        ({"fsx.failPaths": "x"}, "fsx.failPaths is 'x'; give a list of patterns"),
        ({"fsx.badBucket": "x"}, "fsx.badBucket is 'x'; choose refuse or misconfigured"),
    ],
)
def test_a_wrong_setting_changes_nothing_and_is_named(aws: FakeAWS, settings: dict[str, Any], reason: str) -> None:
    before = aws.control.configure({})
    with pytest.raises(ControlError) as caught:
        aws.control.configure({"fsx.taskSeconds": 99, **settings})
    assert str(caught.value).startswith(reason)
    assert aws.control.configure({}) == before


def test_a_fault_answers_instead_of_the_call_as_often_as_asked(aws: FakeAWS, s3: Any, refused: Refused) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    aws.control.fault("s3", "CreateBucket", "SlowDown", "Please reduce your request rate.", status=503, times=2)
    for _ in range(2):
        error = refused(s3.create_bucket, Bucket=name)
        assert (error["Code"], error["Message"], error["status"]) == ("SlowDown", "Please reduce your request rate.", 503)
        assert refused(s3.head_bucket, Bucket=name)["status"] == 404
    s3.create_bucket(Bucket=name)
    assert [call["status"] for call in aws.control.calls("s3", "CreateBucket")] == [503, 503, 200]


def test_a_fault_after_the_call_loses_only_the_answer(
    aws: FakeAWS, fsx: Any, refused: Refused, request_of: Callable[..., dict[str, Any]]
) -> None:
    request = request_of(ClientRequestToken=str(uuid.uuid4()))
    aws.control.fault("fsx", "CreateFileSystem", "InternalServerError", status=500, after=True)
    assert refused(fsx.create_file_system, **request)["Code"] == "InternalServerError"
    before = ids(fsx)
    made = fsx.create_file_system(**request)["FileSystem"]["FileSystemId"]  # the same token: what was made before
    assert made in before
    assert ids(fsx) == before


def test_every_action_of_a_service_can_fail_and_faults_can_be_taken_back(aws: FakeAWS, fsx: Any, refused: Refused) -> None:
    aws.control.fault("fsx", "*", "ThrottlingException", "Rate exceeded", times=100)
    assert refused(fsx.describe_file_systems)["Code"] == "ThrottlingException"
    assert refused(fsx.describe_data_repository_tasks)["Code"] == "ThrottlingException"
    aws.control.clear_faults()
    fsx.describe_file_systems()


def test_throttling_is_ridden_out_by_boto3_s_standard_retries(aws: FakeAWS) -> None:
    keys = aws.environment()
    client = boto3.client(
        "fsx",
        endpoint_url=aws.endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"mode": "standard"}),
    )
    aws.control.fault("fsx", "DescribeFileSystems", "ThrottlingException")
    client.describe_file_systems()
    assert [call["status"] for call in aws.control.calls("fsx")] == [400, 200]


def test_a_fault_can_have_the_members_of_its_error(
    aws: FakeAWS, fsx: Any, refused: Refused, request_of: Callable[..., dict[str, Any]]
) -> None:
    aws.control.fault("fsx", "CreateFileSystem", "ServiceLimitExceeded", "limit", fields={"Limit": "FILE_SYSTEM_COUNT"})
    error = refused(fsx.create_file_system, **request_of())
    assert (error["Code"], error["Limit"]) == ("ServiceLimitExceeded", "FILE_SYSTEM_COUNT")


@pytest.mark.parametrize("fault", [{"service": "fsx"}, {"service": "fsx", "action": "*", "code": "X", "status": 200}])
def test_a_fault_that_is_none_is_refused(aws: FakeAWS, fault: dict[str, Any]) -> None:
    with pytest.raises(ControlError, match=r"a fault has service, action, code|status 200"):
        aws.control._call("POST", "faults", fault)


def test_calls_are_logged_with_their_parameters_and_without_secrets(aws: FakeAWS, fsx: Any) -> None:
    name = uuid.uuid4().hex
    aws.client("secretsmanager").create_secret(Name=name, SecretString="hidden")
    fsx.describe_file_systems(MaxResults=3)
    secret, described = aws.control.calls()
    assert (secret["service"], secret["action"], secret["status"]) == ("secretsmanager", "CreateSecret", 200)
    assert secret["parameters"]["Name"] == name
    assert secret["parameters"]["SecretString"] == "***"
    assert (described["action"], described["parameters"]) == ("DescribeFileSystems", {"MaxResults": 3})
    assert described["time"] >= secret["time"]
    assert aws.control.calls("fsx") == [described]
    assert aws.control.calls("fsx", "CreateFileSystem") == []


def test_an_unknown_control_path_and_a_wrong_method_are_told(aws: FakeAWS) -> None:
    with pytest.raises(ControlError, match="GET /penstock/nothing: "):
        aws.control._call("GET", "nothing")
    with pytest.raises(ControlError, match="GET /penstock/fsx/x/fail: "):
        aws.control._call("GET", "fsx/x/fail")
    with pytest.raises(ControlError, match="no file system, association or task 'fs-1'"):
        aws.control.fail("fs-1")
