"""A cgroup subtree for each node, on cgroup v1 and v2.

v1: the kubelet wants its root in every hierarchy, and a cpuset without cpus and mems takes no process. v2: one folder, and each
level hands its controllers down by `cgroup.subtree_control` before the level below is of use. What to do is decided in `plan`,
which is pure; only v1 could be run where this was written, v2 is covered by unit tests of the plan alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock_local.errors import LocalError

MOUNT = Path("/sys/fs/cgroup")
V1_HIERARCHIES = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "systemd",
    "unified",
    "hugetlb",
    "perf_event",
    "net_cls",
    "net_prio",
)
V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")


@dataclass(frozen=True, slots=True)
class Make:
    """Make this folder."""

    folder: Path


@dataclass(frozen=True, slots=True)
class Inherit:
    """Fill this file with what its namesake one level up holds."""

    file: Path


@dataclass(frozen=True, slots=True)
class Delegate:
    """Let the folders below use these controllers, as far as this folder has them itself."""

    folder: Path
    controllers: tuple[str, ...] = V2_CONTROLLERS


Step = Make | Inherit | Delegate


def version(mount: Path = MOUNT) -> int:
    return 2 if (mount / "cgroup.controllers").exists() else 1


def plan(root: str, node: str, *, version: int, hierarchies: Iterable[str] = (), mount: Path = MOUNT) -> list[Step]:
    """How to make the subtree `root/node`, in order; `hierarchies` are the v1 controllers that are mounted."""
    parts = [*Path(root).parts, node]
    chain = [Path(*parts[: count + 1]) for count in range(len(parts))]
    steps: list[Step] = []
    if version == 2:
        above = mount
        for one in chain:
            steps += [Delegate(above), Make(mount / one)]
            above = mount / one
        return steps
    for name in hierarchies:
        for one in chain:
            folder = mount / name / one
            steps.append(Make(folder))
            if name == "cpuset":
                steps += [Inherit(folder / "cpuset.cpus"), Inherit(folder / "cpuset.mems")]
    return steps


def kubelet_settings(version: int) -> dict[str, object]:
    """What the kubelet's configuration needs to run on this version."""
    return {"cgroupDriver": "cgroupfs", **({"failCgroupV1": False} if version == 1 else {})}


def make(root: str, node: str) -> None:
    """Make the subtree of one node; no effect when it is there."""
    for step in plan(root, node, version=version(), hierarchies=mounted()):
        match step:
            case Make(folder):
                folder.mkdir(exist_ok=True)
            case Inherit(file):
                if not file.read_text().strip():
                    file.write_text((file.parent.parent / file.name).read_text())
            case Delegate(folder, controllers):
                _delegate(folder, controllers)


def mounted(mount: Path = MOUNT) -> tuple[str, ...]:
    """The v1 hierarchies of this machine."""
    return tuple(name for name in V1_HIERARCHIES if (mount / name / "cgroup.procs").exists())


def remove(root: str, *, seconds: float = 15.0) -> None:
    """Kill what is left in the subtree and remove it from every hierarchy."""
    deadline = time.monotonic() + seconds
    while left := [top for top in _tops(root) if top.exists()]:
        for folder in (folder for top in left for folder in _deepest_first(top)):
            _clear(folder)
        if time.monotonic() > deadline:
            raise LocalError(f"cgroups that do not empty after SIGKILL: {', '.join(map(str, left))}")
        time.sleep(0.02)


def remove_empty(root: str) -> None:
    """Remove the folder itself where nothing is in it; clusters of others may be."""
    for top in _tops(root):
        try:
            top.rmdir()
        except OSError:
            continue


def _tops(root: str) -> list[Path]:
    return [MOUNT / root] if version() == 2 else [MOUNT / name / root for name in mounted()]


def _deepest_first(top: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(top, topdown=False):
        yield Path(folder)


def _clear(folder: Path) -> None:
    try:
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        folder.rmdir()
    except OSError:
        pass  # still busy, or gone: the next round sees


def _delegate(folder: Path, controllers: Iterable[str]) -> None:
    there = (folder / "cgroup.controllers").read_text().split()
    target = folder / "cgroup.subtree_control"
    enabled = target.read_text().split()
    wanted = [name for name in controllers if name in there and name not in enabled]
    try:
        if wanted:
            target.write_text(" ".join(f"+{name}" for name in wanted))
    except OSError as error:
        raise LocalError(
            f"{target}: cannot hand down {', '.join(wanted)}: {error.strerror}."
            " In a container, its processes must be in a child of the cgroup root it sees"
        ) from error
