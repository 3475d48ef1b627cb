"""Work teams, and who works in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock_local.aws import ControlError, FakeAWS

MEMBERS = [{"CognitoMemberDefinition": {"UserPool": "us-east-1_abc", "UserGroup": "g", "ClientId": "c"}}]


def test_a_team_is_described_listed_and_deleted(sagemaker: Any, team: str, refused: Callable[..., Any]) -> None:
    found = sagemaker.describe_workteam(WorkteamName=team)["Workteam"]
    assert found["WorkteamArn"] == f"arn:aws:sagemaker:us-east-1:123456789012:workteam/private-crowd/{team}"
    assert found["MemberDefinitions"] == MEMBERS
    assert sagemaker.list_workteams(NameContains=team)["Workteams"] == [found]
    assert sagemaker.delete_workteam(WorkteamName=team)["Success"] is True
    assert sagemaker.list_workteams(NameContains=team)["Workteams"] == []
    assert refused(sagemaker.describe_workteam, WorkteamName=team)["Code"] == "ValidationException"


def test_a_name_is_used_once_in_any_case(sagemaker: Any, team: str, refused: Callable[..., Any]) -> None:
    request = {"WorkteamName": team.upper(), "MemberDefinitions": MEMBERS, "Description": "again"}
    assert refused(sagemaker.create_workteam, **request)["Code"] == "ResourceInUse"


def test_there_are_25_teams_at_most_in_a_region(aws: FakeAWS, refused: Callable[..., Any]) -> None:
    elsewhere = aws.client("sagemaker", region="ca-central-1")
    for number in range(25):
        elsewhere.create_workteam(WorkteamName=f"team-{number}", MemberDefinitions=MEMBERS, Description="x")
    error = refused(elsewhere.create_workteam, WorkteamName="one-more", MemberDefinitions=MEMBERS, Description="x")
    assert error["Code"] == "ResourceLimitExceeded"


@pytest.mark.parametrize(
    ("workers", "truth", "reason"),
    [
        ([], {}, "workers: give at least one"),
        ([{"id": "a"}, {"id": "a"}], {}, "each with an id of its own"),
        ([{"id": "a", "accuracy": 1.5}], {}, "worker a: accuracy is 1.5; expected 0 to 1"),
        ([{"accuracy": 0.5}], {}, "a worker has an id"),
        ([{"id": "a", "confusion": [[0.5, 0.4], [0.0, 1.0]]}], {}, "worker a: a row of the confusion needs"),
        ([{"id": "a"}], {"s3://b/k": "cat"}, "class indices"),
    ],
)
def test_impossible_workers_are_refused(
    aws: FakeAWS, workers: list[dict[str, Any]], truth: dict[str, int], reason: str
) -> None:
    with pytest.raises(ControlError, match=reason):
        aws.control.workers("team", workers, truth=truth)
    with pytest.raises(ControlError, match="give either truth"):
        aws.control.workers("team", [{"id": "a"}])
