"""The way back: no user, no claim, a proven export (export.py), no file system, and only then no finalizer.

Of an adopted file system only the own links go. What is retained is left as it is.
"""

from __future__ import annotations

from dataclasses import replace

from penstock_operator import names
from penstock_operator.api.lustrevolume import VolumeReclaimPolicy
from penstock_operator.lustrevolume import export
from penstock_operator.lustrevolume.export import wait
from penstock_operator.lustrevolume.links import is_own
from penstock_operator.lustrevolume.missing import (
    doubt_left,
    elsewhere,
    is_being_deleted,
    looked_again,
    perhaps_there,
    stall_elsewhere,
)
from penstock_operator.lustrevolume.observe import FINALIZER, Observed
from penstock_operator.lustrevolume.verdict import (
    DeleteClaim,
    DeleteFileSystem,
    DeletePersistentVolume,
    Plan,
    SetFinalizer,
    Unlink,
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
    if file_system is not None:  # a volume may be deleted before it was told
        writing.status |= {"fileSystemId": file_system.id, "storageCapacityGiB": file_system.capacity_gib}
    if observed.held_by:
        message = f"used by {', '.join(observed.held_by)}; the volume goes when these jobs are over, suspended or deleted"
        return replace(_in_use(writing, message), again=None)  # a job that ends is told
    retained = volume.spec.reclaim_policy is VolumeReclaimPolicy.RETAIN
    ours = volume.spec.create is not None
    if ours and not retained and observed.adopted_by:
        message = f"LustreVolume {', '.join(observed.adopted_by)} uses {observed.file_system_id}; delete it first"
        return replace(_in_use(writing, message), again=writing.rules.retry)
    if claim.claim == "ours":
        message = "the claim goes when no pod mounts it any more"
        writing.condition(names.CLAIM_BOUND, False, VolumeReason.UNMOUNTING, message)
        gone = () if claim.deleting else (DeleteClaim(volume.name, claim.uid),)
        return wait(writing, VolumeReason.UNMOUNTING, message, gone)
    if claim.volume == "ours":
        return wait(writing, VolumeReason.UNMOUNTING, "", (DeletePersistentVolume(volume.persistent_volume),))
    if retained:
        return Plan(actions=(SetFinalizer(False),))
    if file_system is None:
        return _absent(observed, writing)
    if file_system.lifecycle == "DELETING":
        writing.condition(names.FILE_SYSTEM_AVAILABLE, False, VolumeReason.DELETING, f"AWS deletes {file_system.id}")
        return wait(writing, VolumeReason.DELETING, f"AWS deletes {file_system.id}")
    if export.due(observed, file_system):
        return export.export(observed, file_system, writing)
    if not ours:
        return _unlinked(observed, writing)
    writing.condition(names.FILE_SYSTEM_AVAILABLE, False, VolumeReason.DELETING, f"AWS deletes {file_system.id}")
    return wait(writing, VolumeReason.DELETING, f"deleting {file_system.id}", (DeleteFileSystem(file_system.id),))


def _unreadable(observed: Observed, writing: Writing) -> Plan:
    """Whose the file system is cannot be told, nor what is to be exported: it stays until somebody says."""
    message = (
        f"{observed.volume.error}; what it asks for cannot be read, so nothing is deleted: mend the spec, or take the "
        f"finalizer {FINALIZER} off by hand and delete the file system yourself"
    )
    writing.phase(VolumePhase.DELETING, VolumeReason.INVALID_SPEC)
    writing.stalled(VolumeReason.INVALID_SPEC, message)
    return Plan(status=writing.status)


def _in_use(writing: Writing, message: str) -> Plan:
    """Nothing that was decided or proven before holds when these are gone."""
    export.withdraw(writing)
    if is_being_deleted(writing.volume):
        writing.condition(names.FILE_SYSTEM_AVAILABLE, False, VolumeReason.IN_USE, message)
    return wait(writing, VolumeReason.IN_USE, message)


def _absent(observed: Observed, writing: Writing) -> Plan:
    """The file system is gone, or only not seen."""
    if observed.deleted or not perhaps_there(observed):
        return Plan(actions=(SetFinalizer(False),))
    if message := elsewhere(observed):
        return stall_elsewhere(observed, writing, message)
    known = writing.status.get("fileSystemId")
    spec = observed.volume.spec
    ours = spec is not None and spec.create is not None
    if ours and known and is_being_deleted(observed.volume) and not export.due(observed, None):
        # Perhaps by an operator that died of it: AWS is asked to say.
        return wait(writing, VolumeReason.DELETING, f"deleting {known}", (DeleteFileSystem(known),))
    left = doubt_left(writing)
    if not left:
        return Plan(actions=(SetFinalizer(False),))
    message = f"AWS knows no file system {known or 'of this volume'}; believed when that has stood for {writing.rules.doubt}"
    return looked_again(wait(writing, VolumeReason.NOT_FOUND, message), left, writing)


def _unlinked(observed: Observed, writing: Writing) -> Plan:
    """An adopted file system takes 8 links at most, so ours do not outlive us. The files stay."""
    own = [one for one in observed.associations if is_own(observed.volume, one)]
    if not own:
        return Plan(actions=(SetFinalizer(False),))
    message = f"unlinking {', '.join(sorted(one.path for one in own))}"
    able = tuple(Unlink(one.id) for one in own if one.lifecycle in ("AVAILABLE", "FAILED", "MISCONFIGURED"))
    return wait(writing, VolumeReason.UNLINKING, message, able)
