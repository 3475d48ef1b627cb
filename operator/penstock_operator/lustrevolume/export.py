"""The export before a file system, or a link to it, goes: begun when nobody writes any more, proven, and the proof kept true.

Auto export is switched off (AWS runs no export task beside it), a task exports every folder that has exportEvents, and it ends
without one failed file. The status names the folders before the task begins, and the proof holds for these alone. Where pods
may have written since (another LustreVolume adopted the file system, a job began to use it) it is withdrawn, and another task
begins. The proof is in the status before anything goes that rests on it.
Source: Amazon FSx API Reference, DeleteFileSystem; facts on "disable auto export, then export, then wait" in its warnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.api.lustrevolume import Repository
from penstock_operator.cloud.fsx import FileSystem
from penstock_operator.conditions import format_time, parse_time
from penstock_operator.lustrevolume.links import association_of, is_own, led_elsewhere
from penstock_operator.lustrevolume.observe import Observed
from penstock_operator.lustrevolume.verdict import Export, Plan, SetEvents, Writing
from penstock_operator.names import VolumePhase, VolumeReason


def due(observed: Observed, file_system: FileSystem | None) -> bool:
    """Some pod could mount it (the claim is named in the status before it is made, or another LustreVolume had one), some
    folder is to be exported, and it is not proven that S3 has them all."""
    status = observed.volume.status
    if not ("claimName" in status or status.get("shared")) or (file_system and file_system.lifecycle == "FAILED"):
        return False
    proof = status.get("export") or {}
    proven = proof.get("folders", ()) if proof.get("proven") else ()
    return not set(_folders(observed)) <= set(proven)


def export(observed: Observed, file_system: FileSystem, writing: Writing) -> Plan:
    """The next step towards the proof."""
    exported = _exported(observed)
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
        return wait(writing, VolumeReason.EXPORTING, "switching auto export off", off)
    if any(found.export_events or found.lifecycle != "AVAILABLE" for found in quiet):
        return wait(writing, VolumeReason.EXPORTING, "waiting for AWS to switch auto export off")
    return _task(observed, file_system, tuple(one.path for one in exported), writing)


def _task(observed: Observed, file_system: FileSystem, paths: tuple[str, ...], writing: Writing) -> Plan:
    task, folders = observed.task, _folders(observed)
    before: dict[str, Any] = dict(observed.volume.status.get("export") or {})
    ended = task is None or task.lifecycle in ("SUCCEEDED", "FAILED", "CANCELED")
    if ended and before.get("folders") != folders:  # the first task, or one that began with other folders
        return _begin(observed, file_system, paths, _again(before) | {"folders": folders}, writing)
    if task is None:
        return _begin(observed, file_system, paths, before, writing)
    if task.lifecycle in ("FAILED", "CANCELED") or (task.lifecycle == "SUCCEEDED" and task.failed):
        failed = {"failures": int(before.get("failures", 0)) + 1, "since": format_time(writing.now), "folders": folders}
        writing.status["export"] = _again(before) | failed
        canceled = "somebody canceled it" if task.lifecycle == "CANCELED" else ""
        why = task.message or canceled or f"{task.failed} of {task.total} files failed"
        return _refused(writing, f"{task.id} ({', '.join(paths)}): {why}")
    if task.lifecycle != "SUCCEEDED" or not task.counted:
        writing.status["export"] = before | {"taskId": task.id}
        return wait(writing, VolumeReason.EXPORTING, f"{task.id} exports {', '.join(paths)}")
    writing.status["export"] = before | {"taskId": task.id, "proven": True}
    message = f"{task.id}: {task.total} files, none failed"
    writing.condition(names.EXPORTED, True, VolumeReason.EXPORTED, message)
    return replace(wait(writing, VolumeReason.EXPORTED, message), again=timedelta(0))


def _begin(
    observed: Observed, file_system: FileSystem, paths: tuple[str, ...], trying: dict[str, Any], writing: Writing
) -> Plan:
    """The token counts tries, so a repeated call is the same task and a new try another."""
    failed_at = parse_time(trying.get("since"))
    if failed_at is not None and writing.now - failed_at < writing.rules.retry:
        return Plan(again=failed_at + writing.rules.retry - writing.now)
    writing.status["export"] = trying
    task = Export(file_system.id, paths, f"{observed.volume.uid}-export-{tries(trying)}")
    return wait(writing, VolumeReason.EXPORTING, f"exporting {', '.join(paths)}", (task,))


def withdraw(writing: Writing) -> None:
    """Somebody may write again: what was exported, or is just now, proves nothing any more. The task's id is kept: AWS runs one
    at a time."""
    before: dict[str, Any] = writing.status.get("export") or {}
    if not _unbegun(before):
        writing.status["export"] = _again(before) | {key: before[key] for key in ("taskId",) if key in before}
        if writing.is_true(names.EXPORTED):
            writing.condition(names.EXPORTED, False, VolumeReason.IN_USE, "it is in use again, and exported again after that")


def tries(status: Mapping[str, Any]) -> int:
    """How many tasks came before this one. (An older operator counted those that failed.)"""
    return int(status.get("tries", status.get("failures", 0)))


def _again(before: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a try in the next one: the counts. They go up once for each task that was begun."""
    counts = {key: before[key] for key in ("tries", "failures") if key in before}
    return counts if _unbegun(before) else counts | {"tries": tries(before) + 1}


def _unbegun(trying: Mapping[str, Any]) -> bool:
    return not trying or ("tries" in trying and "folders" not in trying)


def _exported(observed: Observed) -> list[Repository]:
    """On an adopted file system the own links alone: it stays, and with it what others have linked."""
    spec = observed.volume.spec
    assert spec is not None
    wanted = [one for one in spec.repositories if one.export_events]
    if spec.create is not None:
        return wanted
    return [one for one in wanted if (found := association_of(observed, one)) and is_own(observed.volume, found)]


def _folders(observed: Observed) -> list[str]:
    """What the proof is about."""
    return [f"{one.path} -> {one.s3}" for one in _exported(observed)]


def _refused(writing: Writing, why: str) -> Plan:
    """The file system stays: its data is nowhere else."""
    spec = writing.volume.spec
    left = "the file system and its cost" if spec is not None and spec.create is not None else "the links as they are"
    message = f"{why}; nothing is deleted. Mend it, or set spec.reclaimPolicy to Retain to keep {left}"
    writing.condition(names.EXPORTED, False, VolumeReason.EXPORT_FAILED, message)
    writing.phase(VolumePhase.DELETING, VolumeReason.EXPORT_FAILED)
    writing.stalled(VolumeReason.EXPORT_FAILED, message)
    return Plan(status=writing.status, again=writing.rules.retry)


def wait(writing: Writing, reason: str, message: str, actions: tuple[Any, ...] = ()) -> Plan:
    """A step of the way back that is under way."""
    writing.phase(VolumePhase.DELETING, reason)
    writing.going_on(reason, message)
    since = writing.now - writing.volume.deleted_at if writing.volume.deleted_at else timedelta(0)
    return Plan(actions=actions, status=writing.status, again=writing.rules.patience(since))
