"""The life of a Lustre file system, and which ones AWS makes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from penstock_local.aws import FakeAWS

Make = Callable[..., Any]
PERSISTENT = {"DeploymentType": "PERSISTENT_2", "PerUnitStorageThroughput": 125}
METADATA = {"MetadataConfiguration": {"Mode": "AUTOMATIC"}}
TIERED = {
    "DeploymentType": "PERSISTENT_2", "StorageType": "INTELLIGENT_TIERING", "StorageCapacity": None, "ThroughputCapacity": 4000,
    "DataReadCacheConfiguration": {"SizingMode": "NO_CACHE"},
    "MetadataConfiguration": {"Mode": "USER_PROVISIONED", "Iops": 6000},
}  # fmt: skip


def described(fsx: Any, made: str) -> dict[str, Any]:
    found: dict[str, Any] = fsx.describe_file_systems(FileSystemIds=[made])["FileSystems"][0]
    return found


def gone(fsx: Any, made: str) -> bool:
    try:
        return not described(fsx, made)
    except fsx.exceptions.FileSystemNotFound:
        return True


def test_the_first_answer_has_all_that_a_mount_needs(aws: FakeAWS, fsx: Any, request_of: Make) -> None:
    aws.control.configure({"fsx.createSeconds": 60})
    groups = {"SecurityGroupIds": ["sg-0123456789abcdef0"]}
    made = fsx.create_file_system(**request_of(Tags=[{"Key": "a", "Value": "b"}]), **groups)["FileSystem"]
    assert made["Lifecycle"] == "CREATING"
    assert made["DNSName"] == f"{made['FileSystemId']}.fsx.us-east-1.amazonaws.com"
    assert len(made["LustreConfiguration"]["MountName"]) == 8
    assert made["FileSystemTypeVersion"] == "2.15"
    assert made["Tags"] == [{"Key": "a", "Value": "b"}]
    assert made["ResourceARN"] == f"arn:aws:fsx:us-east-1:123456789012:file-system/{made['FileSystemId']}"
    assert aws.files(made["FileSystemId"]).is_dir()
    assert "SecurityGroupIds" not in made
    assert described(fsx, made["FileSystemId"]) == made
    assert fsx.list_tags_for_resource(ResourceARN=made["ResourceARN"])["Tags"] == made["Tags"]


def test_it_becomes_available_after_the_set_time(aws: FakeAWS, fsx: Any, request_of: Make, eventually: Make) -> None:
    aws.control.configure({"fsx.createSeconds": 0.4})
    made = fsx.create_file_system(**request_of())["FileSystem"]
    assert described(fsx, made["FileSystemId"])["Lifecycle"] == "CREATING"
    eventually(lambda: described(fsx, made["FileSystemId"])["Lifecycle"] == "AVAILABLE", "AVAILABLE")


def test_scratch_1_is_always_mounted_as_fsx_and_has_the_old_default_version(fsx: Any, request_of: Make) -> None:
    made = fsx.create_file_system(**request_of(DeploymentType="SCRATCH_1", FileSystemTypeVersion=None))["FileSystem"]
    assert made["LustreConfiguration"]["MountName"] == "fsx"
    assert made["FileSystemTypeVersion"] == "2.10"


def test_creation_can_fail_with_a_reason_and_the_token_still_gives_the_failed_one(
    aws: FakeAWS, fsx: Any, request_of: Make
) -> None:
    aws.control.configure({"fsx.createSeconds": 60})
    request = request_of(ClientRequestToken=str(uuid.uuid4()))
    made = fsx.create_file_system(**request)["FileSystem"]["FileSystemId"]
    aws.control.fail(made, "no capacity in the zone")
    assert described(fsx, made)["Lifecycle"] == "FAILED"
    assert described(fsx, made)["FailureDetails"] == {"Message": "no capacity in the zone"}
    assert fsx.create_file_system(**request)["FileSystem"]["FileSystemId"] == made


def test_a_token_makes_one_file_system_and_refuses_other_parameters(fsx: Any, request_of: Make, refused: Make) -> None:
    request = request_of(ClientRequestToken=str(uuid.uuid4()))
    made = fsx.create_file_system(**request)["FileSystem"]["FileSystemId"]
    assert fsx.create_file_system(**request)["FileSystem"]["FileSystemId"] == made
    error = refused(fsx.create_file_system, **request | {"StorageCapacity": 2400})
    assert (error["Code"], error["Parameter"]) == ("IncompatibleParameterError", "StorageCapacity")


def test_deletion_ends_in_not_found_and_takes_the_files(
    aws: FakeAWS, fsx: Any, file_system: Make, refused: Make, eventually: Make
) -> None:
    made = file_system()
    aws.control.configure({"fsx.deleteSeconds": 0.3})
    assert fsx.delete_file_system(FileSystemId=made)["Lifecycle"] == "DELETING"
    assert described(fsx, made)["Lifecycle"] == "DELETING"
    assert fsx.delete_file_system(FileSystemId=made)["Lifecycle"] == "DELETING"
    eventually(lambda: gone(fsx, made), "deleted")
    for call in (lambda **given: fsx.describe_file_systems(FileSystemIds=[given["FileSystemId"]]), fsx.delete_file_system):
        error = refused(call, FileSystemId=made)
        assert (error["Code"], error["Message"]) == ("FileSystemNotFound", f"File system '{made}' does not exist.")
    assert not aws.files(made).exists()


def test_a_file_system_is_of_one_region(aws: FakeAWS, fsx: Any, file_system: Make, refused: Make) -> None:
    made = file_system()
    elsewhere = aws.client("fsx", region="eu-west-1")
    assert refused(elsewhere.describe_file_systems, FileSystemIds=[made])["Code"] == "FileSystemNotFound"


def test_all_file_systems_come_in_pages(fsx: Any, file_system: Make) -> None:
    made = {file_system() for _ in range(3)}
    pages = list(fsx.get_paginator("describe_file_systems").paginate(PaginationConfig={"PageSize": 2}))
    assert all(len(each["FileSystems"]) <= 2 for each in pages)
    assert made <= {each["FileSystemId"] for one in pages for each in one["FileSystems"]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"StorageCapacity": 2400},
        {"StorageCapacity": 4800},
        {"DeploymentType": "SCRATCH_1", "StorageCapacity": 3600, "FileSystemTypeVersion": "2.10"},
        PERSISTENT,
        {**PERSISTENT, "PerUnitStorageThroughput": 1000, "KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/k"},
        {**PERSISTENT, **METADATA, "EfaEnabled": True, "StorageCapacity": 38400},
        {**PERSISTENT, "MetadataConfiguration": {"Mode": "USER_PROVISIONED", "Iops": 24000}},
        {"DeploymentType": "PERSISTENT_1", "PerUnitStorageThroughput": 50},
        {"DeploymentType": "PERSISTENT_1", "PerUnitStorageThroughput": 12, "StorageType": "HDD", "StorageCapacity": 6000,
         "DriveCacheType": "NONE"},
        TIERED,
    ],
)  # fmt: skip
def test_what_aws_makes_is_made(fsx: Any, request_of: Make, changes: dict[str, Any]) -> None:
    assert fsx.create_file_system(**request_of(**changes))["FileSystem"]["Lifecycle"] == "CREATING"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"StorageCapacity": 3600}, "Invalid Lustre FS storage capacity: 3600. Must be 1200 or a multiple of 2400."),
        ({"StorageCapacity": 600}, "Invalid Lustre FS storage capacity: 600."),
        ({"StorageCapacity": None}, "StorageCapacity is required"),
        ({"DeploymentType": "SCRATCH_1", "StorageCapacity": 4800}, "1200, 2400 or a multiple of 3600"),
        ({"SubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]}, "Exactly one subnet ID"),
        ({"DeploymentType": "PERSISTENT_2"}, "the provided throughput is invalid"),
        ({**PERSISTENT, "PerUnitStorageThroughput": 200}, "200 was given, PERSISTENT_2 SSD has 125, 250, 500, 1000"),
        ({"PerUnitStorageThroughput": 125}, "not supported for SCRATCH_2"),
        ({"KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/k"}, "KmsKeyId is not supported"),
        ({"StorageType": "HDD"}, "HDD is not supported for deployment type SCRATCH_2"),
        (
            {**PERSISTENT, "FileSystemTypeVersion": "2.10"},
            "2.10 is not supported for PERSISTENT_2; valid values are 2.12, 2.15",
        ),
        ({**PERSISTENT, **METADATA, "FileSystemTypeVersion": "2.12"}, "valid values are 2.15"),
        ({**PERSISTENT, "EfaEnabled": True}, "EfaEnabled needs"),
        ({**PERSISTENT, **METADATA, "EfaEnabled": True}, "1200. Must be a multiple of 38400"),
        ({**PERSISTENT, "MetadataConfiguration": {"Mode": "USER_PROVISIONED", "Iops": 2000}}, "Invalid metadata IOPS 2000"),
        ({**PERSISTENT, "MetadataConfiguration": {"Mode": "AUTOMATIC", "Iops": 3000}}, "Metadata IOPS go with"),
        ({**METADATA}, "MetadataConfiguration is supported for the PERSISTENT_2"),
        ({"AutomaticBackupRetentionDays": 1}, "Backups are not supported for scratch"),
        ({"DriveCacheType": "READ"}, "DriveCacheType is required for the HDD"),
        ({"ThroughputCapacity": 4000}, "INTELLIGENT_TIERING storage type only"),
        ({**TIERED, "ThroughputCapacity": 5000}, "must be a multiple of 4000, 5000 was given"),
        ({**TIERED, "StorageCapacity": 1200}, "StorageCapacity is not supported"),
        (
            {"DataCompressionType": "ZIP"},
            "Value 'ZIP' at 'lustreConfiguration.dataCompressionType' failed to satisfy constraint",
        ),
        ({"SubnetIds": ["subnet-0123456789abcdefg"]}, "at 'subnetIds.1.member' failed to satisfy constraint"),
    ],
)
def test_what_aws_does_not_make_is_refused(
    fsx: Any, request_of: Make, refused: Make, changes: dict[str, Any], message: str
) -> None:
    error = refused(fsx.create_file_system, **request_of(**changes))
    assert error["Code"] == "BadRequest"
    assert message in error["Message"]


def test_other_file_systems_and_the_old_s3_link_are_not_here(fsx: Any, request_of: Make, refused: Make) -> None:
    assert refused(fsx.create_file_system, **request_of() | {"FileSystemType": "WINDOWS"})["Code"] == "NotImplemented"
    error = refused(fsx.create_file_system, **request_of(ImportPath="s3://b"))
    assert error["Message"].startswith("LustreConfiguration.ImportPath (use data repository associations)")


def test_an_update_takes_its_time_and_then_shows(aws: FakeAWS, fsx: Any, file_system: Make, eventually: Make) -> None:
    made = file_system(**PERSISTENT)
    aws.control.configure({"fsx.updateSeconds": 0.3})
    compression = {"DataCompressionType": "LZ4"}
    answer = fsx.update_file_system(FileSystemId=made, StorageCapacity=4800, LustreConfiguration=compression)["FileSystem"]
    assert (answer["Lifecycle"], answer["StorageCapacity"]) == ("UPDATING", 1200)
    action = answer["AdministrativeActions"][0]
    assert (action["AdministrativeActionType"], action["Status"]) == ("FILE_SYSTEM_UPDATE", "IN_PROGRESS")
    eventually(lambda: described(fsx, made)["Lifecycle"] == "AVAILABLE", "updated")
    after = described(fsx, made)
    assert (after["StorageCapacity"], after["LustreConfiguration"]["DataCompressionType"]) == (4800, "LZ4")
    assert after["AdministrativeActions"][0]["Status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("has", "wanted", "message"),
    [
        ({}, {"StorageCapacity": 1200}, "must be greater than the current storage capacity of 1200 GiB"),
        ({}, {"StorageCapacity": 3600}, "Invalid Lustre FS storage capacity: 3600"),
        ({}, {}, "No updates were requested"),
        ({"DeploymentType": "SCRATCH_1"}, {"StorageCapacity": 2400}, "cannot be increased for SCRATCH_1"),
        (PERSISTENT, {"LustreConfiguration": {"PerUnitStorageThroughput": 200}}, "throughput is invalid"),
        (
            {**PERSISTENT, **METADATA, "EfaEnabled": True, "StorageCapacity": 38400},
            {"LustreConfiguration": {"PerUnitStorageThroughput": 250}},
            "cannot be changed on EFA-enabled",
        ),
    ],
)
def test_an_update_that_aws_cannot_do_is_refused(
    fsx: Any, file_system: Make, refused: Make, has: dict[str, Any], wanted: dict[str, Any], message: str
) -> None:
    error = refused(fsx.update_file_system, FileSystemId=file_system(**has), **wanted)
    assert error["Code"] == "BadRequest"
    assert message in error["Message"]


def test_a_token_of_something_deleted_makes_something_new(
    fsx: Any, bucket: str, request_of: Make, eventually: Make, refused: Make
) -> None:
    request = request_of(ClientRequestToken=str(uuid.uuid4()))
    first = fsx.create_file_system(**request)["FileSystem"]["FileSystemId"]
    fsx.delete_file_system(FileSystemId=first)
    eventually(lambda: fsx.create_file_system(**request)["FileSystem"]["FileSystemId"] != first, "a new one")
    link = {"DataRepositoryPath": f"s3://{bucket}", "ClientRequestToken": str(uuid.uuid4())}
    second = fsx.create_file_system(**request)["FileSystem"]["FileSystemId"]
    eventually(lambda: described(fsx, second)["Lifecycle"] == "AVAILABLE", "AVAILABLE")
    fsx.create_data_repository_association(FileSystemId=second, **link)
    fsx.delete_file_system(FileSystemId=second)
    eventually(lambda: gone(fsx, second), "deleted")
    assert refused(fsx.create_data_repository_association, FileSystemId=second, **link)["Code"] == "FileSystemNotFound"
