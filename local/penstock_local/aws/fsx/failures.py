"""Failures on request: a file system, association or task becomes FAILED, or MISCONFIGURED where AWS has that state."""

from __future__ import annotations

from typing import Final

from penstock_local.aws.fsx.state import Resource
from penstock_local.aws.world import World

_STATES: Final = {"fs": ("FAILED", "MISCONFIGURED"), "dra": ("FAILED", "MISCONFIGURED"), "task": ("FAILED",)}
_MESSAGE: Final = {
    "fs": "Amazon FSx could not create the file system: insufficient capacity in the Availability Zone.",
    "dra": "The data repository association cannot be used.",
    "task": "The data repository task failed.",
}


def fail(world: World, resource_id: str, lifecycle: str, message: str) -> None:
    """Raises ValueError for an id that is not there or a state that it cannot have."""
    kind = resource_id.partition("-")[0]
    everything: dict[str, Resource] = {**world.fsx.file_systems, **world.fsx.associations, **world.fsx.tasks}
    resource = everything.get(resource_id)
    if resource is None:
        raise ValueError(f"no file system, association or task {resource_id!r}")
    if lifecycle not in _STATES[kind]:
        raise ValueError(f"{resource_id} cannot become {lifecycle!r}; choose {' or '.join(_STATES[kind])}")
    resource.become(lifecycle, message or _MESSAGE[kind])
