"""The way back: no user, no claim, a proven export, no file system, and only then no finalizer.

Data goes only after its export is proven: auto export is switched off (AWS runs no export task beside it), a task exports every
folder that has exportEvents, it ends without one failed file, and that is written into the status before DeleteFileSystem is
called. A file system that pods could never mount holds nothing of theirs and needs no export.
Source: Amazon FSx API Reference, DeleteFileSystem; facts on "disable auto export, then export, then wait" in its warnings.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.api.lustrevolume import VolumeReclaimPolicy
from penstock_operator.cloud.fsx import FileSystem
from penstock_operator.conditions import format_time, parse_time
from penstock_operator.lustrevolume.links import association_of, led_elsewhere
from penstock_operator.lustrevolume.observe import FINALIZER, Observed
from penstock_operator.lustrevolume.verdict import (
    DeleteClaim,
    DeleteFileSystem,
    DeletePersistentVolume,
    Export,
    Plan,
    SetEvents,
    SetFinalizer,
    Writing,
)
from penstock_operator.names import VolumePhase, VolumeReason


def close(observed: Observed, writing: Writing) -> Plan:
    """One step of the way back. The first that applies is taken; nothing later is thought of before it is done."""
    volume, claim, file_system = observed.volume, observed.claim, observed.file_system
    if FINALIZER not in volume.finalizers:
        return Plan()
    if volume.spec is None:
        return _unreadable(observed, writing)
    if observed.held_by:
        message = f"used by {', '.join(observed.held_by)}; the volume goes when these jobs are over, suspended or deleted"
        return replace(_wait(writing, VolumeReason.IN_USE, message), again=None)  # a job that ends is told
    ours = volume.spec.create is not None and volume.spec.reclaim_policy is not VolumeReclaimPolicy.RETAIN
    if ours and observed.adopted_by:
        message = f"LustreVolume {', '.join(observed.adopted_by)} uses {observed.file_system_id}; delete it first"
        return replace(_wait(writing, VolumeReason.IN_USE, message), again=writing.rules.retry)
    if claim.claim == "ours":
        message = "the claim goes when no pod mounts it any more"
        writing.condition(names.CLAIM_BOUND, False, VolumeReason.UNMOUNTING, message)
        gone = () if claim.deleting else (DeleteClaim(volume.name, claim.uid),)
        return _wait(writing, VolumeReason.UNMOUNTING, message, gone)
    if claim.volume == "ours":
        return _wait(writing, VolumeReason.UNMOUNTING, "", (DeletePersistentVolume(volume.persistent_volume),))
    if not ours or file_system is None:
        return Plan(actions=(SetFinalizer(False),))
    if file_system.lifecycle == "DELETING":
        return _wait(writing, VolumeReason.DELETING, f"AWS deletes {file_system.id}")
    if _holds_data(observed, file_system) and not (volume.status.get("export") or {}).get("proven"):
        return _export(observed, file_system, writing)
    writing.condition(names.FILE_SYSTEM_AVAILABLE, False, VolumeReason.DELETING, f"AWS deletes {file_system.id}")
    return _wait(writing, VolumeReason.DELETING, f"deleting {file_system.id}", (DeleteFileSystem(file_system.id),))


def _unreadable(observed: Observed, writing: Writing) -> Plan:
    """Whose the file system is cannot be told, nor what is to be exported: it stays until somebody says."""
    message = (
        f"{observed.volume.error}; what it asks for cannot be read, so nothing is deleted: mend the spec, or take the "
        f"finalizer {FINALIZER} off by hand and delete the file system yourself"
    )
    writing.phase(VolumePhase.DELETING, VolumeReason.INVALID_SPEC)
    writing.stalled(VolumeReason.INVALID_SPEC, message)
    return Plan(status=writing.status)


def _holds_data(observed: Observed, file_system: FileSystem) -> bool:
    """Files of pods that S3 should get: some pod could mount it (the claim is named in the status before it is made), and
    some folder is to be exported."""
    spec = observed.volume.spec
    wanted = spec is not None and any(one.export_events for one in spec.repositories)
    return wanted and "claimName" in observed.volume.status and file_system.lifecycle != "FAILED"


def _export(observed: Observed, file_system: FileSystem, writing: Writing) -> Plan:
    spec = observed.volume.spec
    assert spec is not None
    exported = [one for one in spec.repositories if one.export_events]
    links = [association_of(observed, one) for one in exported]
    lost = [
        f"{one.path} -> {one.s3}: {found.message or found.lifecycle if found else 'not linked'}"
        for one, found in zip(exported, links, strict=True)
        if found is None or found.lifecycle in ("FAILED", "MISCONFIGURED", "DELETING")
    ]
    lost += [problem for one, found in zip(exported, links, strict=True) if (problem := led_elsewhere(one, found))]
    if lost:
        return _refused(writing, "; ".join(lost))
    quiet = [found for found in links if found is not None]
    loud = [found for found in quiet if found.export_events and found.lifecycle == "AVAILABLE"]
    if loud:
        off = tuple(SetEvents(found.id, tuple(sorted(found.import_events)), ()) for found in loud)
        return _wait(writing, VolumeReason.EXPORTING, "switching auto export off", off)
    if any(found.export_events or found.lifecycle != "AVAILABLE" for found in quiet):
        return _wait(writing, VolumeReason.EXPORTING, "waiting for AWS to switch auto export off")
    paths = tuple(one.path for one in exported)
    before: dict[str, Any] = dict(observed.volume.status.get("export") or {})
    if observed.task is None:
        return _begin(observed, file_system, paths, before, writing)
    if observed.task.lifecycle in ("FAILED", "CANCELED") or (observed.task.lifecycle == "SUCCEEDED" and observed.task.failed):
        failures = int(before.get("failures", 0)) + 1
        writing.status["export"] = {"failures": failures, "since": format_time(writing.now)}
        canceled = "somebody canceled it" if observed.task.lifecycle == "CANCELED" else ""
        why = observed.task.message or canceled or f"{observed.task.failed} of {observed.task.total} files failed"
        return _refused(writing, f"{observed.task.id} ({', '.join(paths)}): {why}")
    if observed.task.lifecycle != "SUCCEEDED" or not observed.task.counted:
        writing.status["export"] = before | {"taskId": observed.task.id}
        return _wait(writing, VolumeReason.EXPORTING, f"{observed.task.id} exports {', '.join(paths)}")
    writing.status["export"] = before | {"taskId": observed.task.id, "proven": True}
    message = f"{observed.task.id}: {observed.task.total} files, none failed"
    writing.condition(names.EXPORTED, True, VolumeReason.EXPORTED, message)
    return replace(_wait(writing, VolumeReason.EXPORTED, message), again=timedelta(0))


def _begin(
    observed: Observed, file_system: FileSystem, paths: tuple[str, ...], before: dict[str, Any], writing: Writing
) -> Plan:
    """The token counts failures, so a repeated call is the same task and a new try another."""
    failures = int(before.get("failures", 0))
    failed_at = parse_time(before.get("since"))
    if failed_at is not None and writing.now - failed_at < writing.rules.retry:
        return Plan(again=failed_at + writing.rules.retry - writing.now)
    begin = Export(file_system.id, paths, f"{observed.volume.uid}-export-{failures}")
    return _wait(writing, VolumeReason.EXPORTING, f"exporting {', '.join(paths)}", (begin,))


def _refused(writing: Writing, why: str) -> Plan:
    """The file system stays: its data is nowhere else."""
    message = f"{why}; nothing is deleted. Mend it, or set spec.reclaimPolicy to Retain to keep the file system and its cost"
    writing.condition(names.EXPORTED, False, VolumeReason.EXPORT_FAILED, message)
    writing.phase(VolumePhase.DELETING, VolumeReason.EXPORT_FAILED)
    writing.stalled(VolumeReason.EXPORT_FAILED, message)
    return Plan(status=writing.status, again=writing.rules.retry)


def _wait(writing: Writing, reason: str, message: str, actions: tuple[Any, ...] = ()) -> Plan:
    writing.phase(VolumePhase.DELETING, reason)
    writing.going_on(reason, message)
    since = writing.now - writing.volume.deleted_at if writing.volume.deleted_at else timedelta(0)
    return Plan(actions=actions, status=writing.status, again=writing.rules.patience(since))
