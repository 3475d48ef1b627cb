"""Bulk export, import and release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock_local.aws import FakeAWS

Make = Callable[..., Any]
NO_REPORT = {"Enabled": False}


def described(fsx: Any, made: str) -> dict[str, Any]:
    found: dict[str, Any] = fsx.describe_data_repository_tasks(TaskIds=[made])["DataRepositoryTasks"][0]
    return found


@pytest.fixture
def task(fsx: Any, eventually: Make) -> Make:
    """Creates a task and gives its description when it has ended."""

    def run(file_system: str, kind: str = "EXPORT_TO_REPOSITORY", **changes: Any) -> dict[str, Any]:
        request = {"FileSystemId": file_system, "Type": kind, "Report": NO_REPORT, **changes}
        made = fsx.create_data_repository_task(**request)["DataRepositoryTask"]
        assert made["Lifecycle"] == "PENDING"
        ended = ("SUCCEEDED", "FAILED", "CANCELED")
        eventually(lambda: described(fsx, made["TaskId"])["Lifecycle"] in ended, "the task has ended")
        return described(fsx, made["TaskId"])

    return run


def counts(found: dict[str, Any]) -> tuple[int, int, int]:
    status = found["Status"]
    return status["TotalCount"], status["SucceededCount"], status["FailedCount"]


def test_an_export_copies_what_changed(aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, task: Make) -> None:
    s3.put_object(Bucket=bucket, Key="in/imported", Body=b"1")
    made = file_system()
    link(made)
    folder = aws.files(made) / "data"
    (folder / "new").write_bytes(b"2")
    found = task(made)
    assert (found["Lifecycle"], counts(found)) == ("SUCCEEDED", (1, 1, 0))
    assert found["StartTime"] <= found["EndTime"]
    assert s3.get_object(Bucket=bucket, Key="in/new")["Body"].read() == b"2"
    assert counts(task(made)) == (0, 0, 0)


def test_paths_choose_what_is_exported_and_one_that_is_missing_fails(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, task: Make
) -> None:
    made = file_system()
    link(made)
    folder = aws.files(made) / "data"
    for name in ("a/1", "a/2", "ab"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    report = {
        "Enabled": True,
        "Path": f"s3://{bucket}/in/reports",
        "Format": "REPORT_CSV_20191124",
        "Scope": "FAILED_FILES_ONLY",
    }
    found = task(made, Paths=["data/a", "/data/none"], Report=report)
    assert (found["Lifecycle"], counts(found)) == ("SUCCEEDED", (3, 2, 1))
    assert {each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]} == {
        "in/a/1", "in/a/2", f"in/reports/{found['TaskId']}/failures.csv",
    }  # fmt: skip
    body = s3.get_object(Bucket=bucket, Key=f"in/reports/{found['TaskId']}/failures.csv")["Body"].read().decode()
    assert body.splitlines() == ["FilePath,FileStatus,ErrorCode", "/data/none,FAILED,PathNotFound"]


def test_files_fail_on_request_and_the_task_still_succeeds(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, task: Make
) -> None:
    made = file_system()
    link(made)
    for name in ("good", "bad.bin"):
        (aws.files(made) / "data" / name).write_bytes(b"x")
    aws.control.configure({"fsx.failPaths": ["data/*.bin"]})
    found = task(made)
    assert (found["Lifecycle"], counts(found)) == ("SUCCEEDED", (2, 1, 1))
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["in/good"]
    aws.control.configure({"fsx.failPaths": []})
    assert counts(task(made)) == (1, 1, 0)


def test_an_export_task_is_refused_until_automatic_export_is_off(
    aws: FakeAWS, fsx: Any, s3: Any, bucket: str, file_system: Make, link: Make, task: Make, eventually: Make, refused: Make
) -> None:
    made = file_system()
    association = link(made, exports="DELETED")["AssociationId"]
    (aws.files(made) / "data/x").write_bytes(b"x")
    request = {"FileSystemId": made, "Type": "EXPORT_TO_REPOSITORY", "Report": NO_REPORT}
    error = refused(fsx.create_data_repository_task, **request)
    assert error["Code"] == "BadRequest"
    assert "turn it off before an export task" in error["Message"]
    fsx.update_data_repository_association(AssociationId=association, S3={"AutoExportPolicy": {"Events": []}})
    only = {"AssociationIds": [association]}
    eventually(lambda: fsx.describe_data_repository_associations(**only)["Associations"][0]["Lifecycle"] == "AVAILABLE", "off")
    assert counts(task(made)) == (1, 1, 0)


def test_while_one_runs_no_other_starts_and_the_file_system_stays(
    aws: FakeAWS, fsx: Any, file_system: Make, link: Make, eventually: Make, refused: Make
) -> None:
    made = file_system()
    link(made)
    aws.control.configure({"fsx.taskSeconds": 60})
    request = {"FileSystemId": made, "Type": "EXPORT_TO_REPOSITORY", "Report": NO_REPORT}
    running = fsx.create_data_repository_task(**request)["DataRepositoryTask"]["TaskId"]
    assert refused(fsx.create_data_repository_task, **request)["Code"] == "DataRepositoryTaskExecuting"
    eventually(lambda: described(fsx, running)["Lifecycle"] == "EXECUTING", "EXECUTING")
    error = refused(fsx.delete_file_system, FileSystemId=made)
    assert (error["Code"], error["status"]) == ("BadRequest", 400)
    assert fsx.cancel_data_repository_task(TaskId=running)["Lifecycle"] == "CANCELING"
    eventually(lambda: described(fsx, running)["Lifecycle"] == "CANCELED", "CANCELED")
    assert refused(fsx.cancel_data_repository_task, TaskId=running)["Code"] == "DataRepositoryTaskEnded"
    assert fsx.delete_file_system(FileSystemId=made)["Lifecycle"] == "DELETING"


def test_a_cancelled_export_keeps_what_is_exported(
    aws: FakeAWS, fsx: Any, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    made = file_system()
    link(made)
    for number in range(50):
        (aws.files(made) / "data" / f"{number:02}").write_bytes(b"x")
    aws.control.configure({"fsx.taskSeconds": 20})
    request = {"FileSystemId": made, "Type": "EXPORT_TO_REPOSITORY", "Report": NO_REPORT}
    running = fsx.create_data_repository_task(**request)["DataRepositoryTask"]["TaskId"]
    eventually(lambda: described(fsx, running)["Status"]["SucceededCount"] > 0, "some are exported")
    fsx.cancel_data_repository_task(TaskId=running)
    eventually(lambda: described(fsx, running)["Lifecycle"] == "CANCELED", "CANCELED")
    total, done, failed = counts(described(fsx, running))
    assert (total, failed) == (50, 0)
    assert 0 < done < 50
    assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == done


def test_an_import_brings_what_is_new_or_changed(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, task: Make
) -> None:
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"1")
    s3.put_object(Bucket=bucket, Key="in/same", Body=b"1")
    made = file_system()
    link(made)
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"2")
    s3.put_object(Bucket=bucket, Key="in/b", Body=b"3")
    assert counts(task(made, "IMPORT_METADATA_FROM_REPOSITORY")) == (2, 2, 0)
    assert [(aws.files(made) / "data" / name).read_bytes() for name in "ab"] == [b"2", b"3"]


def test_a_release_counts_the_files_that_are_in_s3(s3: Any, bucket: str, file_system: Make, link: Make, task: Make) -> None:
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"1")
    made = file_system()
    link(made)
    configuration = {"DurationSinceLastAccess": {"Unit": "DAYS", "Value": 0}}
    found = task(made, "RELEASE_DATA_FROM_FILESYSTEM", ReleaseConfiguration=configuration)
    assert (found["ReleaseConfiguration"], counts(found)) == (configuration, (1, 1, 0))


def test_a_task_can_fail_on_request(aws: FakeAWS, fsx: Any, file_system: Make, link: Make) -> None:
    made = file_system()
    link(made)
    aws.control.configure({"fsx.taskSeconds": 60})
    request = {"FileSystemId": made, "Type": "EXPORT_TO_REPOSITORY", "Report": NO_REPORT}
    running = fsx.create_data_repository_task(**request)["DataRepositoryTask"]["TaskId"]
    aws.control.fail(running, "the bucket's policy changed")
    found = described(fsx, running)
    assert (found["Lifecycle"], found["FailureDetails"]["Message"]) == ("FAILED", "the bucket's policy changed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Paths": ["elsewhere"]}, "No data repository is linked to the paths"),
        (
            {"Report": {"Enabled": True, "Format": "REPORT_CSV_20191124", "Scope": "FAILED_FILES_ONLY"}},
            "Report.Path is required",
        ),
        (
            {"Report": {"Enabled": True, "Format": "REPORT_CSV_20191124", "Scope": "FAILED_FILES_ONLY", "Path": "s3://x/y"}},
            "must be in a linked data repository",
        ),
        ({"Type": "AUTO_RELEASE_DATA"}, "is for Amazon File Cache"),
    ],
)
def test_a_task_that_cannot_work_is_refused(
    fsx: Any, file_system: Make, link: Make, refused: Make, changes: dict[str, Any], message: str
) -> None:
    made = file_system()
    link(made)
    request = {"FileSystemId": made, "Type": "EXPORT_TO_REPOSITORY", "Report": NO_REPORT, **changes}
    error = refused(fsx.create_data_repository_task, **request)
    assert error["Code"] == "BadRequest"
    assert message in error["Message"]


def test_tasks_are_found_by_file_system_and_lifecycle(
    fsx: Any, file_system: Make, link: Make, task: Make, refused: Make
) -> None:
    made = file_system()
    link(made)
    ids = {task(made)["TaskId"] for _ in range(2)}
    by = [{"Name": "file-system-id", "Values": [made]}, {"Name": "task-lifecycle", "Values": ["SUCCEEDED"]}]
    found = fsx.describe_data_repository_tasks(Filters=by, MaxResults=1)
    more = fsx.describe_data_repository_tasks(Filters=by, NextToken=found["NextToken"])
    assert {each["TaskId"] for each in (*found["DataRepositoryTasks"], *more["DataRepositoryTasks"])} == ids
    missing = f"task-{'0' * 17}"
    assert refused(fsx.describe_data_repository_tasks, TaskIds=[missing])["Code"] == "DataRepositoryTaskNotFound"
