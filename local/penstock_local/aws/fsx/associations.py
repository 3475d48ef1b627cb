"""Data repository associations: a folder of a file system linked with a bucket or prefix of S3.

Amazon FSx API Reference: CreateDataRepositoryAssociation and its Describe, Update and Delete; FSx for Lustre User Guide, "Data
repository association lifecycle state". A file system works on one request at a time. CREATING ends when the existing objects
were imported (only with BatchImportMetaDataOnCreate). A bucket that vanishes makes FAILED, as the guide has it. A bucket
that is missing or in another region at the creation is refused with BadRequest, which is what users report of AWS; setting
`fsx.badBucket: misconfigured` lets the association be made and become MISCONFIGURED instead.

UpdateDataRepositoryAssociation changes the policies that are given; one that is left out stays, an empty Events list turns it
off. What AWS does with one left out is not documented: write both.
"""

from __future__ import annotations

import time
from typing import Any, Final

from penstock_local.aws import buckets
from penstock_local.aws.errors import AWSError
from penstock_local.aws.fsx import file_systems, rules, tags, tokens
from penstock_local.aws.fsx.mirror import Mirror
from penstock_local.aws.fsx.state import Association, FileSystem, new_id
from penstock_local.aws.pages import page
from penstock_local.aws.world import Caller, Handler, World

_MOST: Final = 8
_NO_ACCESS: Final = (
    "Amazon FSx is unable to validate access to the S3 bucket. Ensure the IAM role or user you are using has s3:Get*, s3:List* "
    "and s3:PutObject permissions to the S3 bucket prefix."
)
_SCAN_SECONDS: Final = 0.3
_POLL_SECONDS: Final = 0.5


def create(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    if made := tokens.made_before(world, caller, "CreateDataRepositoryAssociation", request):
        return {"Association": described(world.fsx.associations[made])}
    system = file_systems.find(world, caller, request["FileSystemId"])
    folder, (bucket, prefix) = _folder(request.get("FileSystemPath", "/")), _repository(request["DataRepositoryPath"])
    _check_new(world, system, folder, bucket, prefix)
    if world.settings.choice("fsx.badBucket") == "refuse" and (wrong := _wrong_bucket(system, bucket)):
        raise rules.bad(wrong)
    made = new_id("dra")
    mirror = Mirror(system.account, bucket, prefix, system.folder / folder, world.folder / "incoming")
    link = Association(made, *caller, "CREATING", file_system=system.id, request=request, mirror=mirror)
    link.policies = {name: given["Events"] for name, given in request.get("S3", {}).items() if given.get("Events")}
    world.fsx.associations[made] = link
    tags.put(*caller, link.arn("association"), request.get("Tags"))
    tokens.remember(world, caller, "CreateDataRepositoryAssociation", request, made)
    return {"Association": described(link)}


def describe(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    ids = request.get("AssociationIds")
    own = [link for link in world.fsx.associations.values() if (link.account, link.region) == caller]
    links = [_find(world, caller, each) for each in ids] if ids else own
    for each in request.get("Filters", []):
        if each["Name"] == "file-system-id":
            links = [link for link in links if link.file_system in each["Values"]]
        elif each["Name"] == "data-repository-type":
            links = links if "S3" in each["Values"] else []
    try:
        shown, following = page(links, request.get("MaxResults", 25), request.get("NextToken"))
    except ValueError as error:
        raise rules.bad(str(error)) from None
    return {"Associations": [described(link) for link in shown], **following}


def update(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    link = _find(world, caller, request["AssociationId"])
    if link.lifecycle not in ("AVAILABLE", "MISCONFIGURED"):
        raise rules.bad(f"Data repository association {link.id} is {link.lifecycle}; it cannot be updated now.")
    for name, given in request.get("S3", {}).items():
        link.policies.pop(name, None)
        if given.get("Events"):
            link.policies[name] = given["Events"]
    if "ImportedFileChunkSize" in request:
        link.request = {**link.request, "ImportedFileChunkSize": request["ImportedFileChunkSize"]}
    link.become("UPDATING")
    return {"Association": described(link)}


def delete(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    link = _find(world, caller, request["AssociationId"])
    remove = bool(request.get("DeleteDataInFileSystem"))
    if link.lifecycle != "DELETING":
        link.become("DELETING")
        link.policies = {}
        if remove and link.mirror is not None:
            link.mirror.clear()
    return {"AssociationId": link.id, "Lifecycle": "DELETING", "DeleteDataInFileSystem": remove}


def described(link: Association) -> dict[str, Any]:
    """The DataRepositoryAssociation structure of the API."""
    request, arn = link.request, link.arn("association")
    return {
        "AssociationId": link.id,
        "ResourceARN": arn,
        "FileSystemId": link.file_system,
        "Lifecycle": link.lifecycle,
        "FileSystemPath": request.get("FileSystemPath", "/"),
        "DataRepositoryPath": request["DataRepositoryPath"],
        "BatchImportMetaDataOnCreate": request.get("BatchImportMetaDataOnCreate", False),
        "ImportedFileChunkSize": request.get("ImportedFileChunkSize", 1024),
        "S3": {name: {"Events": events} for name, events in link.policies.items()},
        "CreationTime": link.created,
        **link.failure_details,
        **tags.of(link.account, link.region, arn),
    }


def beat(world: World) -> None:
    """Move every association on, and let folders and buckets follow each other."""
    working: set[str] = set()
    for link in list(world.fsx.associations.values()):
        system = world.fsx.file_systems.get(link.file_system)
        if system is None or system.lifecycle == "DELETING":
            continue
        if link.lifecycle in ("CREATING", "UPDATING", "DELETING"):
            if link.file_system not in working:
                working.add(link.file_system)
                _work(world, system, link)
        elif link.lifecycle == "AVAILABLE":
            _follow(link)


def _work(world: World, system: FileSystem, link: Association) -> None:
    assert link.mirror is not None
    if not link.working:
        link.working, link.since = True, time.monotonic()
    if link.lifecycle != "DELETING" and not link.imported and not _wrong_bucket(system, link.mirror.bucket):
        link.mirror.folder.mkdir(parents=True, exist_ok=True)
        link.imported = True
        if link.request.get("BatchImportMetaDataOnCreate"):
            link.mirror.import_changes(("NEW",))
        else:
            link.mirror.look()
    if not link.after(world.settings.seconds("fsx.associationSeconds")):
        return
    link.working = False
    if link.lifecycle == "DELETING":
        del world.fsx.associations[link.id]
        tokens.forget(world, link.id)
        tags.remove(link.account, link.region, link.arn("association"))
    elif wrong := _wrong_bucket(system, link.mirror.bucket):
        link.become("MISCONFIGURED", wrong)
    else:
        link.become("AVAILABLE")


def _follow(link: Association) -> None:
    mirror, now = link.mirror, time.monotonic()
    assert mirror is not None
    if now - mirror.polled >= _POLL_SECONDS:
        mirror.polled = now
        if buckets.region(link.account, mirror.bucket) is None:
            link.become("FAILED", f"The S3 bucket {mirror.bucket} does not exist.")
            return
        if events := link.policies.get("AutoImportPolicy"):
            mirror.import_changes(events)
    if now - mirror.scanned >= _SCAN_SECONDS and (events := link.policies.get("AutoExportPolicy")):
        mirror.scanned = now
        mirror.export_changes(events)


def _find(world: World, caller: Caller, link_id: str) -> Association:
    link = world.fsx.associations.get(link_id)
    if link is None or (link.account, link.region) != caller:
        raise AWSError("DataRepositoryAssociationNotFound", f"Data repository association '{link_id}' does not exist.")
    return link


def _check_new(world: World, system: FileSystem, folder: str, bucket: str, prefix: str) -> None:
    if system.lustre["DeploymentType"] == "SCRATCH_1" or system.fields["FileSystemTypeVersion"] == "2.10":
        raise AWSError("UnsupportedOperation", "Associations need Lustre 2.12 or 2.15 and no SCRATCH_1 deployment type.")
    if system.fields["StorageType"] == "INTELLIGENT_TIERING":
        raise AWSError("UnsupportedOperation", "Intelligent-Tiering file systems cannot be linked to S3.")
    if system.lifecycle not in ("AVAILABLE", "UPDATING"):
        raise rules.bad(f"File system {system.id} is {system.lifecycle}; it can be linked when it is AVAILABLE.")
    links = [link for link in world.fsx.associations.values() if link.file_system == system.id]
    if len(links) >= _MOST:
        raise rules.bad(f"File system {system.id} has {len(links)} data repository associations; the maximum is {_MOST}.")
    if links and not folder:
        raise rules.bad('"/" can be the file system path of the first and only association of a file system.')
    for link in links:
        mirror = link.mirror
        assert mirror is not None
        if _overlap(f"{folder}/", f"{_folder(link.request.get('FileSystemPath', '/'))}/".lstrip("/")):
            raise rules.bad(f"The file system path /{folder} overlaps with that of data repository association {link.id}.")
        if mirror.bucket == bucket and _overlap(prefix, mirror.prefix):
            raise rules.bad(f"The data repository s3://{bucket}/{prefix} overlaps with that of association {link.id}.")


def _wrong_bucket(system: FileSystem, bucket: str) -> str:
    region = buckets.region(system.account, bucket)
    return _NO_ACCESS if region != system.region else ""


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _folder(path: str) -> str:
    """/a/b/ as "a/b", / as "" """
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or "." in parts or "//" in path:
        raise rules.bad(f"The file system path {path!r} must be absolute, without '//', '.' and '..'.")
    return path.strip("/")


def _repository(path: str) -> tuple[str, str]:
    try:
        bucket, key = buckets.parse(path)
    except ValueError:
        raise rules.bad(f"The data repository path {path!r} must be s3://bucket/prefix.") from None
    return bucket, f"{key.rstrip('/')}/" if key.rstrip("/") else ""


ACTIONS: Final[dict[str, Handler]] = {
    "CreateDataRepositoryAssociation": create,
    "DescribeDataRepositoryAssociations": describe,
    "UpdateDataRepositoryAssociation": update,
    "DeleteDataRepositoryAssociation": delete,
}
