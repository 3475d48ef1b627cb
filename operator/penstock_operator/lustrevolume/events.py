"""Events of a volume, as the difference between two statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from penstock_operator import names
from penstock_operator.conditions import condition, is_true
from penstock_operator.events import Event


def events(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    """Each condition that became True, and each new reason to be stalled or to wait in deletion."""
    if not old.get("fileSystemId") and new.get("fileSystemId"):
        yield Event("Normal", "FileSystemFound", f"{new['fileSystemId']}, {new.get('storageCapacityGiB')} GiB")
    for kind in (names.FILE_SYSTEM_AVAILABLE, names.REPOSITORIES_LINKED, names.CLAIM_BOUND, names.EXPORTED):
        found = condition(new, kind)
        if found and is_true(new, kind) and not is_true(old, kind):
            yield Event("Normal", kind, found["message"])
    stalled, before = condition(new, names.STALLED), condition(old, names.STALLED)
    if stalled and is_true(new, names.STALLED):
        if not is_true(old, names.STALLED) or (before or {}).get("reason") != stalled["reason"]:
            yield Event("Warning", stalled["reason"], stalled["message"])
    elif new.get("phase") == names.VolumePhase.DELETING and new.get("reason") != old.get("reason"):
        yield Event("Normal", str(new["reason"]), (condition(new, names.RECONCILING) or {}).get("message", ""))
