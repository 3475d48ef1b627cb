"""Requests and answers against botocore's model."""

from __future__ import annotations

import pytest

from penstock_local.aws.shapes import answer_problems, request_error


def test_a_good_request_has_no_error_and_unknown_members_are_let_pass_as_by_aws() -> None:
    assert request_error("fsx", "DeleteFileSystem", {"FileSystemId": "fs-0123456789abcdef0", "Later": 1}) == ""


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "1 validation error detected: Value null at 'taskId' failed to satisfy constraint: Member must not be null"),
        ({"TaskId": "task-1"}, "2 validation errors detected: Value 'task-1' at 'taskId' failed to satisfy constraint: Member "
            "must have length greater than or equal to 12; Value 'task-1' at 'taskId' failed to satisfy constraint: Member "
            "must satisfy regular expression pattern: ^(task-[0-9a-f]{17,})$"),
        ({"TaskId": 5}, "1 validation error detected: Value '5' at 'taskId' failed to satisfy constraint: Member must be of "
            "type string"),
    ],
)  # fmt: skip
def test_a_request_that_breaks_the_model_is_told_in_aws_words(request_: dict[str, object], message: str) -> None:
    assert request_error("fsx", "CancelDataRepositoryTask", request_) == message


def test_limits_enumerations_and_members_of_lists_are_checked() -> None:
    request = {"FileSystemIds": ["fs-1"], "MaxResults": 0}
    assert "at 'fileSystemIds.1.member'" in request_error("fsx", "DescribeFileSystems", request)
    assert "at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1" in request_error(
        "fsx", "DescribeFileSystems", request
    )
    error = request_error("fsx", "CreateFileSystem", {"FileSystemType": "EXT4", "SubnetIds": []})
    assert (
        "'EXT4' at 'fileSystemType' failed to satisfy constraint: Member must satisfy enum value set: [WINDOWS, LUSTRE,"
        in error
    )


def test_an_answer_may_have_only_the_members_of_the_model() -> None:
    good = {"FileSystemId": "fs-0123456789abcdef0", "Lifecycle": "DELETING"}
    assert answer_problems("fsx", "DeleteFileSystem", good) == []
    assert answer_problems("fsx", "DeleteFileSystem", {**good, "Lifecycle": "GONE"})
    assert answer_problems("fsx", "DeleteFileSystem", {**good, "More": 1})
    assert answer_problems("sagemaker", "StopLabelingJob", {"More": 1})
