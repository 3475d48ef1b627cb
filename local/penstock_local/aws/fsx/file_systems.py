"""Lustre file systems: CREATING, AVAILABLE, UPDATING, DELETING, gone; or FAILED by the control API.

Amazon FSx API Reference: CreateFileSystem, DescribeFileSystems, UpdateFileSystem, DeleteFileSystem. The files are a folder of
this machine, `<state>/fsx/<id>/`, owned by the fake's user with mode 0755, as root owns a new Lustre file system; capacity and
throughput are numbers only. As on AWS, MountName and DNSName are in the first answer and security groups in none.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from typing import Any, Final

from penstock_local.aws.errors import AWSError
from penstock_local.aws.fsx import rules, tags, tokens
from penstock_local.aws.fsx.state import FileSystem, new_id
from penstock_local.aws.pages import page
from penstock_local.aws.world import Caller, Handler, World

_PAGE: Final = 50  # the most that the model lets an answer hold


def create(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    if made := tokens.made_before(world, caller, "CreateFileSystem", request):
        return {"FileSystem": described(world.fsx.file_systems[made])}
    rules.check_new(request)
    made = new_id("fs")
    deployment, storage = rules.kind(request)
    digest = hashlib.sha256(made.encode()).hexdigest()
    lustre = dict(request.get("LustreConfiguration", {}))
    lustre |= {"DeploymentType": deployment, "MountName": "fsx" if deployment == "SCRATCH_1" else _mount_name(digest)}
    lustre.setdefault("DataCompressionType", "NONE")
    lustre.setdefault("WeeklyMaintenanceStartTime", "7:05:00")
    lustre.setdefault("CopyTagsToBackups", False)
    fields: dict[str, Any] = {key: request[key] for key in ("StorageCapacity", "KmsKeyId") if key in request}
    fields |= {
        "StorageType": storage,
        "FileSystemTypeVersion": rules.version(request),
        "SubnetIds": request["SubnetIds"],
        "VpcId": f"vpc-0{hashlib.sha256(request['SubnetIds'][0].encode()).hexdigest()[:16]}",
        "NetworkInterfaceIds": [f"eni-0{digest[:16]}"],
    }
    folder = world.folder / "fsx" / made
    folder.mkdir(parents=True, mode=0o755)
    system = FileSystem(made, *caller, "CREATING", folder=folder, fields=fields, lustre=lustre)
    world.fsx.file_systems[made] = system
    tags.put(*caller, system.arn("file-system"), request.get("Tags"))
    tokens.remember(world, caller, "CreateFileSystem", request, made)
    return {"FileSystem": described(system)}


def describe(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    ids = request.get("FileSystemIds")
    systems = [find(world, caller, each) for each in ids] if ids else _all(world, caller)
    try:
        shown, following = page(systems, min(request.get("MaxResults", _PAGE), _PAGE), request.get("NextToken"))
    except ValueError as error:
        raise rules.bad(str(error)) from None
    return {"FileSystems": [described(system) for system in shown], **following}


def update(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    system = find(world, caller, request["FileSystemId"])
    if tokens.made_before(world, caller, "UpdateFileSystem", request):
        return {"FileSystem": described(system)}
    if system.lifecycle != "AVAILABLE":
        raise rules.bad(f"File system {system.id} is {system.lifecycle}; it can be updated when it is AVAILABLE.")
    rules.check_update(system.fields, system.lustre, request)
    changes: dict[str, Any] = {key: request[key] for key in ("StorageCapacity", "LustreConfiguration") if key in request}
    system.pending = changes
    action = {"AdministrativeActionType": "FILE_SYSTEM_UPDATE", "RequestTime": time.time(), "Status": "IN_PROGRESS"}
    system.actions = [{**action, "TargetFileSystemValues": changes}, *system.actions][:50]
    system.become("UPDATING")
    tokens.remember(world, caller, "UpdateFileSystem", request, system.id)
    return {"FileSystem": described(system)}


def delete(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    system = find(world, caller, request["FileSystemId"])
    busy = [task.id for task in world.fsx.tasks.values() if task.file_system == system.id and task.lifecycle in _BUSY]
    if busy:
        raise rules.bad(f"File system {system.id} has the data repository task {busy[0]} that has not ended.")
    if system.lifecycle != "DELETING":
        system.become("DELETING")
    return {"FileSystemId": system.id, "Lifecycle": "DELETING", "LustreResponse": {}}


def find(world: World, caller: Caller, system_id: str) -> FileSystem:
    """Raises FileSystemNotFound."""
    system = world.fsx.file_systems.get(system_id)
    if system is None or (system.account, system.region) != caller:
        raise AWSError("FileSystemNotFound", f"File system '{system_id}' does not exist.")
    return system


def described(system: FileSystem) -> dict[str, Any]:
    """The FileSystem structure of the API."""
    arn = system.arn("file-system")
    return {
        "OwnerId": system.account,
        "CreationTime": system.created,
        "FileSystemId": system.id,
        "FileSystemType": "LUSTRE",
        "Lifecycle": system.lifecycle,
        "DNSName": f"{system.id}.fsx.{system.region}.amazonaws.com",
        "ResourceARN": arn,
        "LustreConfiguration": system.lustre,
        **system.fields,
        **system.failure_details,
        **tags.of(system.account, system.region, arn),
        **({"AdministrativeActions": system.actions} if system.actions else {}),
    }


def beat(world: World) -> None:
    """Move every file system on."""
    for system in list(world.fsx.file_systems.values()):
        if system.lifecycle == "CREATING" and system.after(world.settings.seconds("fsx.createSeconds")):
            system.become("AVAILABLE")
        elif system.lifecycle == "UPDATING" and system.after(world.settings.seconds("fsx.updateSeconds")):
            system.lustre |= system.pending.pop("LustreConfiguration", {})
            system.fields |= system.pending
            system.pending = {}
            system.actions[0] |= {"Status": "COMPLETED", "ProgressPercent": 100}
            system.become("AVAILABLE")
        elif system.lifecycle == "DELETING" and system.after(world.settings.seconds("fsx.deleteSeconds")):
            _remove(world, system)


def _remove(world: World, system: FileSystem) -> None:
    everything: list[dict[str, Any]] = [world.fsx.associations, world.fsx.tasks]
    for parts in everything:
        for each in [part for part in parts.values() if part.file_system == system.id]:
            del parts[each.id]
            tokens.forget(world, each.id)
    del world.fsx.file_systems[system.id]
    tokens.forget(world, system.id)
    tags.remove(system.account, system.region, system.arn("file-system"))
    shutil.rmtree(system.folder, ignore_errors=True)  # a pod may still write there


def _all(world: World, caller: Caller) -> list[FileSystem]:
    return [system for system in world.fsx.file_systems.values() if (system.account, system.region) == caller]


def _mount_name(digest: str) -> str:
    """Eight letters and digits."""
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[int(digest[i : i + 2], 16) % 32] for i in range(0, 16, 2))


_BUSY: Final = ("PENDING", "EXECUTING", "CANCELING")

ACTIONS: Final[dict[str, Handler]] = {
    "CreateFileSystem": create,
    "DescribeFileSystems": describe,
    "UpdateFileSystem": update,
    "DeleteFileSystem": delete,
}
