"""Events as the difference between two statuses: an event is posted when, and only when, a status write made it true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from penstock_operator import names
from penstock_operator.conditions import condition, is_true
from penstock_operator.events import Event
from penstock_operator.names import EventName, Reason


def events(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    """What a user should be told about this change of status."""

    def became(kind: str) -> Mapping[str, Any] | None:
        return condition(new, kind) if is_true(new, kind) and not is_true(old, kind) else None

    made = (new.get("workers") or {}).get("current") or 0
    if made and new.get("attempt") == 1 and not (old.get("workers") or {}).get("current"):
        yield Event("Normal", EventName.CREATED_WORKERS, f"created {made} worker{'s' if made > 1 else ''}")
    if (lacks := _unplaced(new)) and not _unplaced(old):
        yield Event("Warning", EventName.UNSCHEDULABLE, lacks)
    if became(names.RUNNING):
        pod = (new.get("launcher") or {}).get("pod", "")
        yield Event("Normal", EventName.RUNNING, f"all workers are Ready; mpirun runs in {pod} (kubectl logs -f {pod})")
    if new.get("attempt") != old.get("attempt") and old.get("attempt") and is_true(new, names.RESTARTING):
        yield Event("Warning", EventName.RESTARTING, (condition(new, names.RESTARTING) or {}).get("message", ""))
    if found := became(names.SUSPENDED):
        yield Event("Normal", EventName.SUSPENDED, found["message"])
    if is_true(old, names.SUSPENDED) and not is_true(new, names.SUSPENDED):
        yield Event("Normal", EventName.RESUMED, f"attempt {new.get('attempt')} starts")
    if found := became(names.COMPLETE):
        yield Event("Normal", EventName.COMPLETED, found["message"])
    if found := became(names.FAILED):
        yield Event("Warning", EventName.FAILED, f"{found['reason']}: {found['message']}")
        return
    stalled, before = condition(new, names.STALLED), condition(old, names.STALLED)
    if (
        stalled
        and is_true(new, names.STALLED)
        and (not is_true(old, names.STALLED) or (before or {}).get("reason") != stalled["reason"])
    ):
        yield Event("Warning", EventName.STALLED, f"{stalled['reason']}: {stalled['message']}")
    if is_true(old, names.STALLED) and not is_true(new, names.STALLED) and not is_true(new, names.COMPLETE):
        yield Event("Normal", EventName.UNSTALLED, "goes on")


def _unplaced(status: Mapping[str, Any]) -> str:
    """What is said of a pod without a place: of one that the job waits for, or of one that a running ring is to grow by."""
    conditions = (condition(status, kind) for kind in (names.RECONCILING, names.WORKERS_READY))
    return next((one["message"] for one in conditions if one and one["reason"] == Reason.UNSCHEDULABLE), "")
