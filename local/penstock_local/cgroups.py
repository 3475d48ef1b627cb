"""A cgroup subtree for each node, on cgroup v1 and v2.

v1: the kubelet wants its root in every hierarchy, and a cpuset without cpus and mems takes no process. v2: one folder, and
controllers are delegated downwards by `cgroup.subtree_control`. Decisions are pure (`layout`); only v1 could be run where this
was written, v2 is covered by unit tests of the layout alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Layout:
    """Which folders to make, outermost first, and which files to fill before the folder below is made."""

    version: int
    folders: tuple[Path, ...]
    cpusets: tuple[Path, ...] = ()
    delegations: tuple[Path, ...] = ()


def version(mount: Path = MOUNT) -> int:
    return 2 if (mount / "cgroup.controllers").exists() else 1


def layout(root: str, node: str, *, version: int, hierarchies: Iterable[str] = (), mount: Path = MOUNT) -> Layout:
    """The subtree `root/node`; `hierarchies` are the v1 controllers that are mounted."""
    parts = [*Path(root).parts, node]
    chain = [Path(*parts[: count + 1]) for count in range(len(parts))]
    if version == 2:
        folders = tuple(mount / one for one in chain)
        return Layout(2, folders, delegations=(mount, *folders[:-1]))
    tops = [mount / name for name in hierarchies]
    return Layout(
        1,
        tuple(top / one for top in tops for one in chain),
        tuple(mount / "cpuset" / one for one in chain if "cpuset" in hierarchies),
    )


def kubelet_settings(version: int) -> dict[str, object]:
    """What the kubelet's configuration needs to run on this version."""
    return {"cgroupDriver": "cgroupfs", **({"failCgroupV1": False} if version == 1 else {})}


def make(root: str, node: str) -> None:
    """Make the subtree of one node."""
    plan = layout(root, node, version=version(), hierarchies=mounted())
    for one in plan.delegations:
        _delegate(one)
    for folder in plan.folders:
        folder.mkdir(exist_ok=True)
        if folder in plan.delegations:
            _delegate(folder)
        if folder in plan.cpusets:
            for name in ("cpuset.cpus", "cpuset.mems"):
                (folder / name).write_text((folder.parent / name).read_text())


def mounted(mount: Path = MOUNT) -> tuple[str, ...]:
    """The v1 hierarchies of this machine."""
    return tuple(name for name in V1_HIERARCHIES if (mount / name / "cgroup.procs").exists())


def remove(root: str, *, seconds: float = 10.0) -> None:
    """Kill what is left in the subtree and remove it from every hierarchy."""
    tops = [MOUNT / root] if version() == 2 else [MOUNT / name / root for name in mounted()]
    deadline = time.monotonic() + seconds
    while any(top.exists() for top in tops) and time.monotonic() < deadline:
        for top in tops:
            for folder in (
                sorted((one for one in top.rglob("*") if one.is_dir()), key=lambda one: -len(one.parts)) if top.exists() else ()
            ):
                _clear(folder)
            _clear(top)
        time.sleep(0.05)


def _clear(folder: Path) -> None:
    try:
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        folder.rmdir()
    except OSError:
        pass  # still busy, or gone: the next round sees


def _delegate(folder: Path) -> None:
    controllers = (folder / "cgroup.controllers").read_text().split()
    wanted = [name for name in ("cpu", "cpuset", "memory", "pids", "io", "hugetlb") if name in controllers]
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
