"""ClientRequestToken: a call repeated with the same token and parameters gives what the first call made.

Amazon FSx API Reference, CreateFileSystem: with other parameters it is refused with IncompatibleParameterError.
"""

from __future__ import annotations

import json
from typing import Any

from penstock_local.aws.errors import AWSError
from penstock_local.aws.world import Caller, World


def made_before(world: World, caller: Caller, action: str, request: dict[str, Any]) -> str | None:
    """The id that this token made; None for a new token."""
    known = world.fsx.tokens.get(_key(caller, action, request))
    if known is None:
        return None
    fingerprint, made = known
    if fingerprint != _fingerprint(request):
        fields = {"Parameter": _differing(json.loads(fingerprint), request)}
        message = "The request uses a client token that was used before with different parameters"
        raise AWSError("IncompatibleParameterError", message, fields=fields)
    return made


def remember(world: World, caller: Caller, action: str, request: dict[str, Any], made: str) -> None:
    if request.get("ClientRequestToken"):
        world.fsx.tokens[_key(caller, action, request)] = (_fingerprint(request), made)


def forget(world: World, made: str) -> None:
    """What is deleted no longer answers for its token."""
    world.fsx.tokens = {key: value for key, value in world.fsx.tokens.items() if value[1] != made}


def _key(caller: Caller, action: str, request: dict[str, Any]) -> tuple[str, str, str, str]:
    return caller.account, caller.region, action, request.get("ClientRequestToken", "")


def _fingerprint(request: dict[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


def _differing(before: dict[str, Any], now: dict[str, Any]) -> str:
    return next(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
