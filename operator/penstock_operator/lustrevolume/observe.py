"""What a decision about a volume may look at: the LustreVolume, what AWS says, its claim, and who uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from penstock_operator import names
from penstock_operator.api.lustrevolume import LustreVolumeSpec
from penstock_operator.cloud.fsx import NOWHERE, Association, FileSystem, Place, Task
from penstock_operator.conditions import parse_time

FINALIZER = f"{names.GROUP}/file-system"

Presence = Literal["absent", "ours", "foreign"]


@dataclass(frozen=True, slots=True)
class Volume:
    """A LustreVolume as decisions see it. `spec` is None when it does not parse; `error` then says why."""

    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    spec: LustreVolumeSpec | None
    error: str
    status: Mapping[str, Any]
    deleted_at: datetime | None = None

    @property
    def persistent_volume(self) -> str:
        """Name of its PersistentVolume, which is cluster-scoped: the uid keeps volumes of two namespaces apart."""
        return f"penstock-{self.uid}"


@dataclass(frozen=True, slots=True)
class Claim:
    """The pair that pods mount. `uid` of the claim, for its deletion. `released`: the volume was bound to a claim that is gone,
    and binds to no other."""

    volume: Presence = "absent"
    claim: Presence = "absent"
    bound: bool = False
    deleting: bool = False
    uid: str = ""
    released: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """A call that failed. Nothing is tried before `until`; the status says why meanwhile. `action`: what was to be done (None:
    the volume could not be looked at); when that is no longer wanted, the trouble is over."""

    reason: str
    message: str
    until: datetime
    action: object = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a plan may depend on, besides the clock. `file_system_id`: known from spec, status or an own call."""

    volume: Volume
    file_system_id: str | None = None
    file_system: FileSystem | None = None
    place: Place = NOWHERE
    """Where AWS was asked; known when it was asked and knew no file system."""
    deleted: bool = False
    """AWS has taken a DeleteFileSystem call from this operator."""
    zone: str = ""
    associations: tuple[Association, ...] = ()
    task: Task | None = None
    claim: Claim = Claim()
    used_by: tuple[str, ...] = ()
    held_by: tuple[str, ...] = ()
    """Those of them that are under way."""
    adopted_by: tuple[str, ...] = ()
    """Other LustreVolumes (namespace/name) that name this file system in their spec."""
    trouble: Trouble | None = None
    zone_trouble: Trouble | None = None
    """Why the subnet's zone is not known. Nothing else waits for it: the file system is paid for, and its id must be told."""


def volume_from(body: Mapping[str, Any]) -> Volume:
    """Parse a LustreVolume object; a spec that does not parse is reported, not raised."""
    metadata = body["metadata"]
    spec, error = None, ""
    try:
        spec = LustreVolumeSpec.model_validate(body.get("spec") or {})
    except ValidationError as invalid:
        first = invalid.errors()[0]
        error = f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']} (found {str(first.get('input'))[:80]!r})"
    return Volume(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        spec=spec,
        error=error,
        status=body.get("status") or {},
        deleted_at=parse_time(metadata.get("deletionTimestamp")),
    )
