"""Remote objects that outlive the step which made them: made once, found again by a retry, never taken from someone else.

An annotation holds the hash of what the object was made from. The same name with the same hash is ours, whoever created it; the
same name with another hash (or none) is refused. One that has already failed when the step starts is made anew: whoever runs a
failed step again wants it tried again. One that a step has given up for good carries the reason, and is not made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from .errors import ComponentError
from .kube import Kube, Object, Refused

log = logging.getLogger(__name__)

INPUTS: Final = "penstock.dev/inputs"
GIVEN_UP: Final = "penstock.dev/given-up"
GONE_SECONDS: Final = 120.0


def digest(value: Any) -> str:
    """SHA-256 (hex, 16 digits) of a JSON value; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def marked(body: Object) -> Object:
    """The object with the hash of its spec in the annotation."""
    annotations = {**body["metadata"].get("annotations", {}), INPUTS: digest(body["spec"])}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def plain(value: Any) -> Any:
    """A JSON value with whole floats as integers: KFP hands numbers in dictionaries through a format that knows floats only,
    and the API server takes no 2.0 for an integer."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def start(kube: Kube, wish: Object, failed: Callable[[Object], bool], gone_seconds: float = GONE_SECONDS) -> Object:
    """Create the object, or take up the one that is there. One that is being deleted is waited for, at most `gone_seconds`.

    Raises:
        ComponentError: the name belongs to an object made from something else, or to one that was given up, or the API server
            refuses the object.
    """
    kind, name = wish["kind"], wish["metadata"]["name"]
    while True:
        try:
            made = kube.create(wish)
            log.info("%s %s/%s created", kind, kube.namespace, name)
            return made
        except Refused as error:
            if error.status != 409:
                raise
        found = kube.get(wish["apiVersion"], kind, name)
        if found is None:
            continue
        if not same(found, wish):
            inputs = found["metadata"].get("annotations", {}).get(INPUTS)
            raise ComponentError(
                f"{kind} {kube.namespace}/{name} exists and was made from something else ({INPUTS}: {inputs}, expected "
                f"{wish['metadata']['annotations'][INPUTS]}); choose another name, or delete it"
            )
        if found["metadata"].get("deletionTimestamp"):
            log.info("%s %s is being deleted; waiting to make it anew", kind, name)
        elif GIVEN_UP in found["metadata"].get("annotations", {}):
            reason = found["metadata"]["annotations"][GIVEN_UP]
            raise ComponentError(f"{kind} {kube.namespace}/{name} was given up: {reason}; delete it to begin anew")
        elif failed(found):
            log.warning("%s %s has failed before; it is made anew", kind, name)
            kube.delete(wish["apiVersion"], kind, name, found["metadata"]["uid"])
        else:
            log.info("%s %s/%s was already started by an earlier try; going on with it", kind, kube.namespace, name)
            return found
        _wait_gone(kube, found, gone_seconds)


def same(found: Object, wish: Object) -> bool:
    """Whether both were made from the same."""
    hashes = [each["metadata"].get("annotations", {}).get(INPUTS) for each in (found, wish)]
    return bool(hashes[0] == hashes[1])


def own(kube: Kube, wish: Object) -> Object | None:
    """The object as it is now, None if it is not there or not ours. Looks twice, a second apart: a signal may have come while
    the create was on its way."""
    for pause in (1.0, 0.0):
        found = kube.get(wish["apiVersion"], wish["kind"], wish["metadata"]["name"])
        if found is not None:
            return found if same(found, wish) else None
        time.sleep(pause)
    return None


def delete(kube: Kube, wish: Object) -> None:
    """Delete the object if it is ours."""
    found = own(kube, wish)
    if found is not None and kube.delete(wish["apiVersion"], wish["kind"], wish["metadata"]["name"], found["metadata"]["uid"]):
        log.warning("%s %s deleted", wish["kind"], wish["metadata"]["name"])


def condition(found: Object, kind: str) -> Object | None:
    """The condition of this type if it is True."""
    for each in found.get("status", {}).get("conditions", []):
        if each["type"] == kind and each["status"] == "True":
            return dict(each)
    return None


def follow_until(
    kube: Kube, found: Object, until: Callable[[Object], bool], seconds: float, overdue: Callable[[Object], str]
) -> Object | None:
    """Watch the object until `until(object)`, and return it so; None if it is gone.

    Raises:
        ComponentError: neither within `seconds`; the message is `overdue(object)`.
    """
    deadline = time.monotonic() + seconds
    name, tick = found["metadata"]["name"], min(5.0, seconds)
    with contextlib.closing(kube.follow(found["apiVersion"], found["kind"], name, tick)) as changes:
        for now in changes:
            if now is None or until(now):
                return now
            if time.monotonic() > deadline:
                raise ComponentError(overdue(now))
    raise AssertionError("a followed object ends with None")


def _wait_gone(kube: Kube, old: Object, seconds: float) -> None:
    def overdue(now: Object) -> str:
        left = ", ".join(now["metadata"].get("finalizers", [])) or "none"
        name = f"{old['kind']} {old['metadata']['name']}"
        return f"{name} is being deleted and not gone after {seconds:.0f} s; finalizers left: {left}"

    follow_until(kube, old, lambda now: bool(now["metadata"]["uid"] != old["metadata"]["uid"]), seconds, overdue)


def seconds(begin: str | None, end: str | None) -> float:
    """Seconds between two of the API's times; 0.0 where one is missing."""
    if not begin or not end:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
