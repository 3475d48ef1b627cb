"""The shapes of a decision about a volume: the calls a plan asks for, and the status being written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.api.lustrevolume import CreateFileSystem as Wanted
from penstock_operator.api.lustrevolume import Repository
from penstock_operator.conditions import Status, is_true, set_condition
from penstock_operator.lustrevolume.observe import Volume


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decisions depend on."""

    poll: timedelta = timedelta(seconds=2)
    """Between two looks at something that AWS is about to finish."""
    retry: timedelta = timedelta(seconds=60)
    """Before a link or an export that failed is made again, and between two looks at a volume at rest."""

    @property
    def doubt(self) -> timedelta:
        """How long AWS must know no file system before it is held to be gone: 5 minutes. FSx is eventually consistent, and a
        CreateFileSystem that another operator sent before it lost the lease may take 100 s to land (fsx.py: three tries)."""
        return 5 * self.retry

    def patience(self, since: timedelta) -> timedelta:
        """How long to wait before AWS is asked again about what began `since` ago: from `poll` to 15 s. AWS takes minutes or
        hours, and its calls are rationed."""
        return min(max(self.poll, since / 10), timedelta(seconds=15))


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Hold the LustreVolume until what it paid for is gone, or let it go."""

    held: bool


@dataclass(frozen=True, slots=True)
class CreateFileSystem:
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class DeleteFileSystem:
    file_system_id: str


@dataclass(frozen=True, slots=True)
class Link:
    """Make a data repository association; the token makes a repeated call the same call."""

    file_system_id: str
    repository: Repository
    token: str


@dataclass(frozen=True, slots=True)
class Unlink:
    association_id: str


@dataclass(frozen=True, slots=True)
class SetEvents:
    association_id: str
    import_events: tuple[str, ...]
    export_events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Export:
    file_system_id: str
    paths: tuple[str, ...]
    token: str


@dataclass(frozen=True, slots=True)
class CreateChild:
    """A PersistentVolume or a claim."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePersistentVolume:
    name: str


Action = (
    SetFinalizer
    | CreateFileSystem
    | DeleteFileSystem
    | Link
    | Unlink
    | SetEvents
    | Export
    | CreateChild
    | DeleteClaim
    | DeletePersistentVolume
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now. The status is written first; then the actions run side by side. `again`: look again after this time."""

    actions: tuple[Action, ...] = ()
    status: Status | None = None
    again: timedelta | None = None


@dataclass(slots=True)
class Writing:
    """A status on its way from what it was to what it should be. `rules`: those of the decision."""

    volume: Volume
    now: datetime
    rules: Rules = Rules()
    status: Status = field(init=False)

    def __post_init__(self) -> None:
        self.status = dict(self.volume.status)
        self.status["conditions"] = [
            {**one, "observedGeneration": self.volume.generation} for one in self.status.get("conditions", ())
        ]

    def condition(self, kind: str, value: bool, reason: str, message: str) -> None:
        """Set a condition; one that was never there is introduced, so that tools can wait for it."""
        set_condition(self.status, self.volume.generation, kind, value, reason, message, self.now, introduce=True)

    def is_true(self, kind: str) -> bool:
        return is_true(self.status, kind)

    def phase(self, phase: str, reason: str) -> None:
        self.status["phase"], self.status["reason"] = phase, reason

    def stalled(self, reason: str, message: str) -> None:
        """It cannot go on without help, or without AWS."""
        set_condition(self.status, self.volume.generation, names.STALLED, True, reason, message, self.now)
        set_condition(self.status, self.volume.generation, names.RECONCILING, False, reason, "", self.now)

    def going_on(self, reason: str, message: str) -> None:
        set_condition(self.status, self.volume.generation, names.STALLED, False, reason, "", self.now)
        set_condition(self.status, self.volume.generation, names.RECONCILING, True, reason, message, self.now)

    def settled(self, reason: str) -> None:
        set_condition(self.status, self.volume.generation, names.STALLED, False, reason, "", self.now)
        set_condition(self.status, self.volume.generation, names.RECONCILING, False, reason, "", self.now)
