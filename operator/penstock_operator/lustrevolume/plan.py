"""The decision: `plan(observed, now)` says what to call next and what the status should be. Pure; no I/O, no clock.

A volume's life is a few steps, each found from what AWS and the cluster show, never from memory alone: finalizer, file system,
links to S3, claim; and back (closing.py): no user, no claim, a proven export, no file system, no finalizer. Every call can be
repeated (tokens follow from the uid), so the operator can be killed between any two. What costs money is made only under a
finalizer; what holds data goes only after its export is proven in the status.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from penstock_operator import names
from penstock_operator.api.lustrevolume import VolumeReclaimPolicy
from penstock_operator.cloud.fsx import FileSystem
from penstock_operator.conditions import format_time
from penstock_operator.lustrevolume.claim import persistent_volume, persistent_volume_claim
from penstock_operator.lustrevolume.closing import close
from penstock_operator.lustrevolume.links import link
from penstock_operator.lustrevolume.missing import (
    doubt_left,
    elsewhere,
    forget_place,
    looked_again,
    note_place,
    refused,
    seen,
    stall_elsewhere,
)
from penstock_operator.lustrevolume.observe import FINALIZER, Observed
from penstock_operator.lustrevolume.verdict import (
    Action,
    CreateChild,
    CreateFileSystem,
    DeletePersistentVolume,
    Link,
    Plan,
    Rules,
    SetFinalizer,
    Writing,
)
from penstock_operator.names import VolumePhase, VolumeReason


def plan(observed: Observed, now: datetime, rules: Rules) -> Plan:
    """Decide what to do about one volume now."""
    writing = Writing(observed.volume, now, rules)
    seen(observed, writing)
    if observed.adopted_by:
        writing.status["shared"] = True
    decided = close(observed, writing) if observed.volume.deleting else _open(observed, writing)
    if decided.status is not None:
        decided = replace(decided, status=_finished(decided.status, observed))
    trouble = observed.trouble
    if trouble is None or trouble.action not in decided.actions:
        return decided
    # What failed is told, and tried again when its pause is over.
    status = decided.status if decided.status is not None else writing.status
    writing.status = dict(status)
    writing.stalled(trouble.reason, trouble.message)
    if isinstance(trouble.action, Link):
        words = f"{trouble.message}; the bucket may be missing, in another region, or closed to FSx"
        writing.condition(names.REPOSITORIES_LINKED, False, VolumeReason.LINK_FAILED, words)
    if not writing.is_true(names.FILE_SYSTEM_AVAILABLE) and not observed.volume.deleting:
        writing.condition(names.FILE_SYSTEM_AVAILABLE, False, trouble.reason, trouble.message)
    writing.phase(writing.status.get("phase", VolumePhase.PENDING), trouble.reason)
    left = trouble.until - now
    if left > timedelta(0):
        if refused(trouble):
            forget_place(writing)
        return Plan(status=_finished(writing.status, observed), again=left)
    return replace(decided, status=_finished(writing.status, observed))


def _open(observed: Observed, writing: Writing) -> Plan:
    """Towards a volume that jobs can mount."""
    volume = observed.volume
    spec = volume.spec
    if spec is None:
        writing.phase(VolumePhase.FAILED, VolumeReason.INVALID_SPEC)
        writing.stalled(VolumeReason.INVALID_SPEC, volume.error)
        return Plan(status=writing.status)
    # Also of an adopted file system our links are to go with us.
    linking = bool(spec.repositories or volume.status.get("repositories"))
    linking = linking and spec.reclaim_policy is not VolumeReclaimPolicy.RETAIN
    held = spec.create is not None or linking or bool(observed.used_by)
    if held != (FINALIZER in volume.finalizers):
        return Plan(actions=(SetFinalizer(held),), again=timedelta(0))
    file_system = observed.file_system
    if file_system is None:
        return _missing(observed, writing)
    _describe(file_system, observed.zone, writing)
    if observed.zone_trouble is not None:
        trouble = observed.zone_trouble
        writing.phase(VolumePhase.CREATING, trouble.reason)
        writing.stalled(trouble.reason, trouble.message)
        return Plan(status=writing.status, again=max(trouble.until - writing.now, writing.rules.poll))
    actions: list[Action] = []
    if writing.is_true(names.FILE_SYSTEM_AVAILABLE):
        actions += link(observed, writing)
        # Pods shall find the whole tree, and write nothing that no link exports.
        if writing.is_true(names.REPOSITORIES_LINKED) or "claimName" in volume.status:
            actions += _claim(observed, file_system, writing)
    return _conclude(observed, file_system, actions, writing)


def _missing(observed: Observed, writing: Writing) -> Plan:
    """No file system: it is to be made, or it is gone behind our back (which loses data, so it is never made again)."""
    spec = observed.volume.spec
    assert spec is not None
    if message := elsewhere(observed):
        return stall_elsewhere(observed, writing, message)
    if observed.file_system_id is not None or spec.create is None:
        message = (
            f"AWS knows no file system {observed.file_system_id}: it was deleted, or is in another account or region; "
            "delete this LustreVolume and make another"
        )
        writing.condition(names.FILE_SYSTEM_AVAILABLE, False, VolumeReason.NOT_FOUND, message)
        left = doubt_left(writing)
        # Failed is final for those who wait: they delete the volume and pay for another.
        writing.phase(VolumePhase.PENDING if left else VolumePhase.FAILED, VolumeReason.NOT_FOUND)
        writing.stalled(VolumeReason.NOT_FOUND, message)
        decided = Plan(status=writing.status, again=writing.rules.retry)
        return looked_again(decided, left, writing) if left else decided
    note_place(writing, observed.place)
    message = f"asking AWS for {spec.create.storage_capacity_gi_b} GiB"
    writing.condition(names.FILE_SYSTEM_AVAILABLE, False, VolumeReason.CREATING, message)
    writing.phase(VolumePhase.CREATING, VolumeReason.CREATING)
    writing.going_on(VolumeReason.CREATING, message)
    again = writing.rules.poll if "region" in observed.volume.status else timedelta(0)  # made, and AWS does not show it yet
    return Plan(actions=(CreateFileSystem(spec.create),), status=writing.status, again=again)


def _describe(found: FileSystem, zone: str, writing: Writing) -> None:
    writing.status |= {
        "fileSystemId": found.id,
        "dnsName": found.dns_name,
        "mountName": found.mount_name,
        "storageCapacityGiB": found.capacity_gib,
        **({"zone": zone} if zone else {}),
        **({"creationTime": format_time(found.created)} if found.created else {}),
    }
    reason, message = {
        "AVAILABLE": (VolumeReason.AVAILABLE, f"{found.id} is available"),
        "UPDATING": (VolumeReason.AVAILABLE, f"{found.id} is available, and being updated"),
        "CREATING": (VolumeReason.CREATING, f"AWS makes {found.id}; this takes 5 minutes or more"),
        "DELETING": (VolumeReason.NOT_FOUND, f"{found.id} is being deleted, and not by its LustreVolume"),
        "MISCONFIGURED": (VolumeReason.MISCONFIGURED, f"{found.id}: {found.message or 'misconfigured'}"),
    }.get(found.lifecycle, (VolumeReason.FAILED, _failed(found)))
    writing.condition(names.FILE_SYSTEM_AVAILABLE, found.lifecycle in ("AVAILABLE", "UPDATING"), reason, message)


def _failed(found: FileSystem) -> str:
    return (
        f"{found.id}: {found.message or 'AWS could not make it'}; AWS often lacks capacity in one zone: delete this "
        "LustreVolume (the failed file system goes with it) and make another, perhaps in another subnet"
    )


def _claim(observed: Observed, file_system: FileSystem, writing: Writing) -> list[Action]:
    """PersistentVolume and claim. Neither is taken over when it is somebody else's."""
    volume, claim = observed.volume, observed.claim
    if "foreign" in (claim.volume, claim.claim):
        what = f"PersistentVolumeClaim {volume.name}" if claim.claim == "foreign" else volume.persistent_volume
        message = f"{what} exists and is not this volume's; delete or rename it, or rename the volume"
        writing.condition(names.CLAIM_BOUND, False, VolumeReason.NAME_CONFLICT, message)
        return []
    # In the status before it is in the cluster: from then on a pod may have written what deletion has to export.
    writing.status["claimName"] = volume.name
    actions: list[Action] = []
    if claim.released:
        actions.append(DeletePersistentVolume(volume.persistent_volume))
    elif claim.volume == "absent":
        actions.append(CreateChild(persistent_volume(volume, file_system)))
    if claim.claim == "absent" and not claim.released:
        actions.append(CreateChild(persistent_volume_claim(volume, file_system)))
    if claim.bound and not claim.deleting:
        writing.condition(names.CLAIM_BOUND, True, VolumeReason.CLAIM_BOUND, f"claim {volume.name} is bound")
    else:
        why = "is being deleted" if claim.deleting else "is being bound"
        writing.condition(names.CLAIM_BOUND, False, VolumeReason.CLAIM_PENDING, f"claim {volume.name} {why}")
    return actions


def _conclude(observed: Observed, file_system: FileSystem, actions: list[Action], writing: Writing) -> Plan:
    """Phase, and when to look again."""
    reasons = {one["type"]: (one["status"], one["reason"], one["message"]) for one in writing.status["conditions"]}
    wanted = (names.FILE_SYSTEM_AVAILABLE, names.REPOSITORIES_LINKED, names.CLAIM_BOUND)
    missing = next((reasons.get(kind, ("False", "", "")) for kind in wanted if reasons.get(kind, ("",))[0] != "True"), None)
    if missing is None:
        writing.phase(VolumePhase.AVAILABLE, VolumeReason.AVAILABLE)
        writing.settled(VolumeReason.SETTLED)
        return Plan(actions=tuple(actions), status=writing.status, again=writing.rules.retry)
    _, reason, message = missing
    needs_help = reason in (
        VolumeReason.FAILED,
        VolumeReason.NOT_FOUND,
        VolumeReason.MISCONFIGURED,
        VolumeReason.LINK_FAILED,
        VolumeReason.NAME_CONFLICT,
    )
    if needs_help:
        lost = reason in (VolumeReason.FAILED, VolumeReason.NOT_FOUND)
        writing.phase(VolumePhase.FAILED if lost else VolumePhase.PENDING, reason)
        writing.stalled(reason, message)
        return Plan(actions=tuple(actions), status=writing.status, again=writing.rules.retry / 2)
    available = writing.is_true(names.FILE_SYSTEM_AVAILABLE)
    writing.phase(VolumePhase.LINKING if available else VolumePhase.CREATING, reason)
    writing.going_on(reason, message)
    age = writing.now - file_system.created if file_system.created else timedelta(0)
    return Plan(actions=tuple(actions), status=writing.status, again=writing.rules.patience(age))


def _finished(status: dict[str, object], observed: Observed) -> dict[str, object]:
    """What is derived: users and the text of their column."""
    status = dict(status)
    status["observedGeneration"] = observed.volume.generation
    status["usedBy"] = list(observed.used_by[:64])
    more = len(observed.used_by) - 2
    status["summary"] = ", ".join(observed.used_by[:2]) + (f" and {more} more" if more > 0 else "")
    return status
