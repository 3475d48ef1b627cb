"""Conditions and patches, the same for every kind.

Only `set_condition` sets a transition time, and only when `status` flips; so equal facts give an equal status, and no write.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from penstock_operator import names

Status = dict[str, Any]

_ORDER = (
    names.COMPLETE,
    names.FAILED,
    names.RUNNING,
    names.SUSPENDED,
    names.RESTARTING,
    names.STORAGE_READY,
    names.WORKERS_READY,
    names.FILE_SYSTEM_AVAILABLE,
    names.REPOSITORIES_LINKED,
    names.CLAIM_BOUND,
    names.EXPORTED,
    names.RECONCILING,
    names.STALLED,
)


def parse_time(text: str | None) -> datetime | None:
    """RFC 3339 to an aware datetime."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def format_time(moment: datetime) -> str:
    """RFC 3339 with whole seconds, as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def set_condition(
    status: Status,
    generation: int,
    kind: str,
    value: bool,
    reason: str,
    message: str,
    now: datetime,
    *,
    introduce: bool = False,
) -> None:
    """Set one condition. One that was never there is introduced as False only where tools should be able to wait for it
    (`introduce`); else absent means the same."""
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    before = conditions.get(kind)
    text = "True" if value else "False"
    if before is None and not value and not introduce:
        return
    flipped = before is None or before["status"] != text
    conditions[kind] = {
        "type": kind,
        "status": text,
        "observedGeneration": generation,
        "lastTransitionTime": format_time(now) if flipped or before is None else before["lastTransitionTime"],
        "reason": reason,
        "message": message[:4096],
    }
    status["conditions"] = [conditions[one] for one in _ORDER if one in conditions]


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), None)


def is_true(status: Mapping[str, Any], kind: str) -> bool:
    found = condition(status, kind)
    return found is not None and found["status"] == "True"


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch from `old` to `new`; lists are replaced whole, vanished keys become null. Empty when equal."""
    patch: dict[str, Any] = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            patch[key] = difference(before, after)
        else:
            patch[key] = after
    return patch
