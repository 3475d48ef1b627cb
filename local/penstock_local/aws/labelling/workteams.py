"""Work teams of a private workforce.

Amazon SageMaker API Reference: CreateWorkteam, DescribeWorkteam, ListWorkteams, DeleteWorkteam. The members' user pools are not
looked up. Who really works is told by the control API, for a name. The API names no error for a missing team; the code is
SageMaker's usual one.
"""

from __future__ import annotations

import time
from typing import Any, Final

from penstock_local.aws.errors import AWSError
from penstock_local.aws.labelling import rules
from penstock_local.aws.pages import page
from penstock_local.aws.world import Caller, Handler, World

_MOST: Final = 25


def create(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    name, teams = request["WorkteamName"], world.labelling.workteams
    if (*caller, name.lower()) in teams:
        raise AWSError("ResourceInUse", f"A work team named {name} exists already.")
    if sum(key[:2] == caller for key in teams) >= _MOST:
        raise AWSError("ResourceLimitExceeded", f"There are {_MOST} work teams in this account and region already.")
    kept = ("WorkteamName", "MemberDefinitions", "Description", "NotificationConfiguration", "WorkerAccessConfiguration")
    now = time.time()
    arn, force = f"arn:aws:sagemaker:{caller.region}:{caller.account}", request.get("WorkforceName", "default")
    team = {key: request[key] for key in kept if key in request} | {
        "WorkteamArn": f"{arn}:workteam/private-crowd/{name}",
        "WorkforceArn": f"{arn}:workforce/private-crowd/{force}",
        "SubDomain": f"penstock.labeling.{caller.region}.sagemaker.aws",
        "CreateDate": now,
        "LastUpdatedDate": now,
    }
    teams[(*caller, name.lower())] = team
    return {"WorkteamArn": team["WorkteamArn"]}


def describe(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    return {"Workteam": find(world, caller, request["WorkteamName"])}


def list_(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    own = [team for key, team in world.labelling.workteams.items() if key[:2] == caller]
    named = [team for team in own if request.get("NameContains", "").lower() in team["WorkteamName"].lower()]
    by = "WorkteamName" if request.get("SortBy", "Name") == "Name" else "CreateDate"
    named.sort(key=lambda team: team[by], reverse=request.get("SortOrder") == "Descending")
    try:
        shown, following = page(named, request.get("MaxResults", 100), request.get("NextToken"))
    except ValueError as error:
        raise rules.invalid(str(error)) from None
    return {"Workteams": list(shown), **following}


def delete(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    find(world, caller, request["WorkteamName"])
    del world.labelling.workteams[(*caller, request["WorkteamName"].lower())]
    return {"Success": True}


def find(world: World, caller: Caller, name: str) -> dict[str, Any]:
    """Raises ValidationException for a team that is not there."""
    team = world.labelling.workteams.get((*caller, name.lower()))
    if team is None:
        raise rules.invalid(f"The work team {name} does not exist in {caller.region}.")
    return team


ACTIONS: Final[dict[str, Handler]] = {
    "CreateWorkteam": create,
    "DescribeWorkteam": describe,
    "ListWorkteams": list_,
    "DeleteWorkteam": delete,
}
