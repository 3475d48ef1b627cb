"""Data repository tasks: bulk export, import and release, one at a time per file system.

Amazon FSx API Reference: CreateDataRepositoryTask, DescribeDataRepositoryTasks, CancelDataRepositoryTask; CompletionReport.
EXPORT_TO_REPOSITORY copies the files that changed and is refused while automatic export is on (DeleteFileSystem says why); a
file that was removed is not removed from S3. RELEASE_DATA_FROM_FILESYSTEM counts and releases nothing: a folder has no
stubs. Files fail by setting `fsx.failPaths`; a task that ended with failed files is SUCCEEDED with FailedCount, as on AWS.
"""

from __future__ import annotations

import csv
import io
import math
import time
from fnmatch import fnmatchcase
from typing import Any, Final

from penstock_local.aws import buckets
from penstock_local.aws.errors import AWSError, not_implemented
from penstock_local.aws.fsx import file_systems, rules, tags, tokens
from penstock_local.aws.fsx.state import Association, FileSystem, Item, Task, new_id
from penstock_local.aws.pages import page
from penstock_local.aws.world import Caller, Handler, World

_ENDED: Final = ("FAILED", "SUCCEEDED", "CANCELED")


def create(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    if made := tokens.made_before(world, caller, "CreateDataRepositoryTask", request):
        return {"DataRepositoryTask": described(world.fsx.tasks[made])}
    system = file_systems.find(world, caller, request["FileSystemId"])
    links = _check_new(world, system, request)
    made = new_id("task")
    task = Task(made, *caller, "PENDING", file_system=system.id, request=request)
    world.fsx.tasks[made] = task
    task.items = [item for link in links for item in _items(system, link, request)]
    task.items += _missing(system, request)
    tags.put(*caller, task.arn("task"), request.get("Tags"))
    tokens.remember(world, caller, "CreateDataRepositoryTask", request, made)
    return {"DataRepositoryTask": described(task)}


def describe(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    ids = request.get("TaskIds")
    own = [task for task in world.fsx.tasks.values() if (task.account, task.region) == caller]
    found = [_find(world, caller, each) for each in ids] if ids else own
    for each in request.get("Filters", []):
        name = {"file-system-id": "file_system", "task-lifecycle": "lifecycle"}.get(each["Name"])
        if name is None:
            raise not_implemented(f"the filter {each['Name']}")
        found = [task for task in found if getattr(task, name) in each["Values"]]
    try:
        shown, following = page(found, min(request.get("MaxResults", 50), 50), request.get("NextToken"))
    except ValueError as error:
        raise rules.bad(str(error)) from None
    return {"DataRepositoryTasks": [described(task) for task in shown], **following}


def cancel(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    task = _find(world, caller, request["TaskId"])
    if task.lifecycle in _ENDED:
        raise AWSError("DataRepositoryTaskEnded", f"Data repository task {task.id} has ended: {task.lifecycle}.")
    task.become("CANCELING")
    return {"TaskId": task.id, "Lifecycle": task.lifecycle}


def described(task: Task) -> dict[str, Any]:
    """The DataRepositoryTask structure of the API."""
    request, arn = task.request, task.arn("task")
    counts = {"SucceededCount": task.done - len(task.failed), "FailedCount": len(task.failed)}
    return {
        "TaskId": task.id,
        "ResourceARN": arn,
        "Lifecycle": task.lifecycle,
        "Type": request["Type"],
        "FileSystemId": task.file_system,
        "CreationTime": task.created,
        "Paths": request.get("Paths", []),
        "Report": request["Report"],
        "Status": {"TotalCount": len(task.items), **counts, "LastUpdatedTime": task.ended or time.time()},
        **({"StartTime": task.started} if task.started else {}),
        **({"EndTime": task.ended} if task.ended else {}),
        **({"ReleaseConfiguration": request["ReleaseConfiguration"]} if "ReleaseConfiguration" in request else {}),
        **task.failure_details,
        **tags.of(task.account, task.region, arn),
    }


def beat(world: World) -> None:
    """Move every task on; its files are done evenly over its seconds."""
    for task in list(world.fsx.tasks.values()):
        if task.lifecycle == "PENDING":
            task.started = time.time()
            task.become("EXECUTING")
        elif task.lifecycle == "CANCELING":
            task.become("CANCELED")
        elif task.lifecycle == "EXECUTING":
            _execute(world, task)
        if task.lifecycle in _ENDED and task.ended is None:
            task.ended = time.time()


def _execute(world: World, task: Task) -> None:
    seconds = world.settings.seconds("fsx.taskSeconds")
    share = 1.0 if task.after(seconds) else (time.monotonic() - task.since) / seconds
    patterns = world.settings.patterns("fsx.failPaths")
    while task.done < math.floor(share * len(task.items)):
        item = task.items[task.done]
        failing = any(fnmatchcase(item.shown.lstrip("/"), pattern.lstrip("/")) for pattern in patterns)
        code = "S3AccessDenied" if failing else _do(task.request["Type"], item)
        task.done += 1
        if code:
            task.failed.append((item.shown, code))
    if share == 1.0:
        _report(task)
        task.become("SUCCEEDED")


def _do(kind: str, item: Item) -> str:
    if item.mirror is None:
        return "PathNotFound"
    if kind == "EXPORT_TO_REPOSITORY":
        return item.mirror.export_one(item.path)
    return item.mirror.import_one(item.path) if kind == "IMPORT_METADATA_FROM_REPOSITORY" else ""


def _report(task: Task) -> None:
    """CompletionReport: {path}/task-{id}/failures.csv."""
    report = task.request["Report"]
    if report["Enabled"]:
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["FilePath", "FileStatus", "ErrorCode"])
        rows.writerows([f"/{path}", "FAILED", code] for path, code in task.failed)
        bucket, key = buckets.parse(report["Path"])
        place = "/".join(part for part in (key.strip("/"), task.id, "failures.csv") if part)
        if buckets.region(task.account, bucket) is not None:
            buckets.write(task.account, bucket, place, text.getvalue().encode())


def _check_new(world: World, system: FileSystem, request: dict[str, Any]) -> list[Association]:
    """The associations that the task concerns."""
    if request["Type"] == "AUTO_RELEASE_DATA":
        raise rules.bad("AUTO_RELEASE_DATA is for Amazon File Cache.")
    if request["Type"] == "RELEASE_DATA_FROM_FILESYSTEM" and system.fields["FileSystemTypeVersion"] == "2.10":
        raise AWSError("UnsupportedOperation", "Release tasks need Lustre 2.12 or 2.15.")
    if wrong := [path for path in _paths(request) if ".." in path.split("/")]:
        raise rules.bad(f"The path {wrong[0]!r} is not in the file system.")
    if system.lifecycle not in ("AVAILABLE", "UPDATING"):
        raise rules.bad(f"File system {system.id} is {system.lifecycle}; tasks run when it is AVAILABLE.")
    running = [task.id for task in world.fsx.tasks.values() if task.file_system == system.id and task.lifecycle not in _ENDED]
    if running:
        message = "An existing data repository task is currently executing on the file system. Wait until the existing task has"
        raise AWSError("DataRepositoryTaskExecuting", f"{message} completed, then create the new task. It is {running[0]}.")
    own = [link for link in world.fsx.associations.values() if link.file_system == system.id]
    usable = [link for link in own if link.lifecycle in ("AVAILABLE", "MISCONFIGURED", "UPDATING")]
    links = [link for link in usable if any(_touches(_at(system, link), path) for path in _paths(request))]
    if not links:
        raise rules.bad(f"No data repository is linked to the paths {_paths(request)} of file system {system.id}.")
    if request["Type"] == "EXPORT_TO_REPOSITORY" and (on := [link.id for link in links if "AutoExportPolicy" in link.policies]):
        raise rules.bad(f"Automatic export is on for {on[0]}; turn it off before an export task.")
    _check_report(links, request["Report"])
    return links


def _check_report(links: list[Association], report: dict[str, Any]) -> None:
    if not report["Enabled"]:
        return
    if missing := [name for name in ("Path", "Format", "Scope") if name not in report]:
        raise rules.bad(f"Report.{missing[0]} is required when the report is enabled.")
    places = [f"s3://{link.mirror.bucket}/{link.mirror.prefix}" for link in links if link.mirror]
    if not any(f"{report['Path'].rstrip('/')}/".startswith(place) for place in places):
        raise rules.bad(f"The report path {report['Path']} must be in a linked data repository: {', '.join(places)}")


def _items(system: FileSystem, link: Association, request: dict[str, Any]) -> list[Item]:
    """The files of one association that the task is to handle."""
    mirror = link.mirror
    assert mirror is not None
    if request["Type"] == "EXPORT_TO_REPOSITORY":
        candidates = mirror.changed()
    elif request["Type"] == "IMPORT_METADATA_FROM_REPOSITORY":
        candidates = mirror.stale()
    else:
        candidates = sorted(path for path in mirror.files() if path in mirror.synced)
    items = [Item(mirror, path, f"{_at(system, link)}/{path}".lstrip("/")) for path in candidates]
    return [item for item in items if any(_under(item.shown, path) for path in _paths(request))]


def _missing(system: FileSystem, request: dict[str, Any]) -> list[Item]:
    """Paths that are not there: the task goes on and reports PathNotFound."""
    if request["Type"] != "EXPORT_TO_REPOSITORY":
        return []
    return [Item(None, path, path) for path in _paths(request) if not (system.folder / path).exists()]


def _paths(request: dict[str, Any]) -> list[str]:
    """From the root of the file system, without slashes at the ends; "" is the root."""
    return [path.strip("/") for path in request.get("Paths", [])] or [""]


def _at(system: FileSystem, link: Association) -> str:
    assert link.mirror is not None
    return str(link.mirror.folder.relative_to(system.folder)).strip(".")


def _under(path: str, top: str) -> bool:
    return not top or path == top or path.startswith(f"{top}/")


def _touches(at: str, path: str) -> bool:
    return _under(at, path) or _under(path, at)


def _find(world: World, caller: Caller, task_id: str) -> Task:
    task = world.fsx.tasks.get(task_id)
    if task is None or (task.account, task.region) != caller:
        raise AWSError("DataRepositoryTaskNotFound", f"Data repository task '{task_id}' does not exist.")
    return task


ACTIONS: Final[dict[str, Handler]] = {
    "CreateDataRepositoryTask": create,
    "DescribeDataRepositoryTasks": describe,
    "CancelDataRepositoryTask": cancel,
}
