"""What FSx remembers: file systems, associations, tasks, and which client request token made what."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from penstock_local.aws.fsx.mirror import Mirror


@dataclass
class Resource:
    """What all three have in common. `since`: when the lifecycle began, on the monotonic clock."""

    id: str
    account: str
    region: str
    lifecycle: str
    since: float = field(default_factory=time.monotonic)
    created: float = field(default_factory=time.time)
    failure: str = ""

    def become(self, lifecycle: str, failure: str = "") -> None:
        self.lifecycle, self.since, self.failure = lifecycle, time.monotonic(), failure

    def after(self, seconds: float) -> bool:
        """Has this lifecycle lasted so long?"""
        return time.monotonic() - self.since >= seconds

    def arn(self, kind: str) -> str:
        return f"arn:aws:fsx:{self.region}:{self.account}:{kind}/{self.id}"

    @property
    def failure_details(self) -> dict[str, Any]:
        return {"FailureDetails": {"Message": self.failure[:256]}} if self.failure else {}


@dataclass
class FileSystem(Resource):
    """`fields`: the members of the answer that do not follow from the rest; `lustre`: its LustreConfiguration."""

    folder: Path = Path()
    fields: dict[str, Any] = field(default_factory=dict)
    lustre: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, Any] = field(default_factory=dict)  # what an update in progress will change
    actions: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Part(Resource):
    """What belongs to a file system, given by its id."""

    file_system: str = ""


@dataclass
class Association(Part):
    """A link between a folder and a bucket's prefix; `working`: it is the one request its file system works on."""

    request: dict[str, Any] = field(default_factory=dict)
    policies: dict[str, list[str]] = field(default_factory=dict)  # AutoImportPolicy, AutoExportPolicy: events
    mirror: Mirror | None = None
    working: bool = False
    imported: bool = False


class Item(NamedTuple):
    """One file of a task: the path in its mirror (no mirror: there is nothing at the path), and the path to show."""

    mirror: Mirror | None
    path: str
    shown: str


@dataclass
class Task(Part):
    """`items`: what is to be done; `done` of them are; `failed`: path and error code."""

    request: dict[str, Any] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    done: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    started: float | None = None
    ended: float | None = None


@dataclass
class FsxState:
    """All of it, by id; of all accounts and regions."""

    file_systems: dict[str, FileSystem] = field(default_factory=dict)
    associations: dict[str, Association] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    tokens: dict[tuple[str, str, str, str], tuple[str, str]] = field(default_factory=dict)


def new_id(prefix: str) -> str:
    """Such as fs-0123456789abcdef0."""
    return f"{prefix}-0{uuid4().hex[:16]}"
