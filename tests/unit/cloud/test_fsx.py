"""What is read out of AWS's answers, and where the calls go."""

from __future__ import annotations

from typing import Any

import pytest

from penstock_operator.cloud.fsx import FSx, Place

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}
ARN = "arn:aws:fsx:eu-west-1:111122223333:file-system/fs-0123456789abcdef0"


@pytest.fixture
def fsx(monkeypatch: pytest.MonkeyPatch) -> FSx:
    for name, value in {**KEYS, "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ACCOUNT_ID", raising=False)
    return FSx()


def test_the_account_is_taken_from_the_credentials_that_name_it(fsx: FSx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", "111122223333")
    assert FSx().place() == Place("111122223333", "eu-west-1")


def test_an_account_that_nobody_tells_is_unknown_and_no_failure(fsx: FSx) -> None:
    assert fsx.place() == Place("", "eu-west-1")


def test_a_file_system_tells_where_it_is_and_an_association_whose_it_is(fsx: FSx, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = [{"Key": "Name", "Value": "x"}, {"Key": "penstock.dev/volume", "Value": "uid-1"}]
    answers: dict[str, Any] = {
        "DescribeFileSystems": {"FileSystems": [{"FileSystemId": "fs-0", "ResourceARN": ARN}]},
        "DescribeDataRepositoryAssociations": {
            "Associations": [{"AssociationId": "dra-0", "Tags": tags}, {"AssociationId": "dra-1"}]
        },
    }
    monkeypatch.setattr(fsx._client, "_make_api_call", lambda action, given: answers[action])
    found = fsx.describe("fs-0")
    assert found is not None
    assert found.place == Place("111122223333", "eu-west-1")
    assert [one.tag for one in fsx.associations("fs-0")] == ["uid-1", ""]
