"""The cgroup subtree of a node: decided without a machine, for both versions. Version 2 is covered by these alone."""

from __future__ import annotations

from pathlib import Path

from penstock_local.cgroups import Delegate, Inherit, Make, kubelet_settings, mounted, plan, version

TOP = Path("/cg")


def test_version_2_hands_controllers_down_before_it_makes_the_next_level() -> None:
    assert plan("penstock/demo", "node1", version=2, mount=TOP) == [
        Delegate(TOP),
        Make(TOP / "penstock"),
        Delegate(TOP / "penstock"),
        Make(TOP / "penstock/demo"),
        Delegate(TOP / "penstock/demo"),
        Make(TOP / "penstock/demo/node1"),
    ]


def test_version_2_leaves_the_nodes_own_folder_to_its_kubelet() -> None:
    """A kubelet hands controllers down itself; a folder with them handed down takes no process (no internal processes)."""
    assert Delegate(TOP / "penstock/demo/node1") not in plan("penstock/demo", "node1", version=2, mount=TOP)


def test_version_1_makes_the_subtree_in_every_mounted_hierarchy() -> None:
    steps = plan("penstock", "node1", version=1, hierarchies=("memory", "pids"), mount=TOP)
    folders = ["memory/penstock", "memory/penstock/node1", "pids/penstock", "pids/penstock/node1"]
    assert steps == [Make(TOP / one) for one in folders]


def test_version_1_fills_a_cpuset_before_the_level_below_is_made() -> None:
    steps = plan("penstock", "node1", version=1, hierarchies=("cpuset",), mount=TOP)
    outer, inner = TOP / "cpuset/penstock", TOP / "cpuset/penstock/node1"
    assert steps == [
        Make(outer),
        Inherit(outer / "cpuset.cpus"),
        Inherit(outer / "cpuset.mems"),
        Make(inner),
        Inherit(inner / "cpuset.cpus"),
        Inherit(inner / "cpuset.mems"),
    ]


def test_the_kubelet_accepts_version_1_only_where_it_is_told_to() -> None:
    assert kubelet_settings(1) == {"cgroupDriver": "cgroupfs", "failCgroupV1": False}
    assert kubelet_settings(2) == {"cgroupDriver": "cgroupfs"}


def test_the_version_is_read_from_the_mount(tmp_path: Path) -> None:
    assert version(tmp_path) == 1
    (tmp_path / "cgroup.controllers").touch()
    assert version(tmp_path) == 2


def test_only_mounted_hierarchies_count(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/cgroup.procs").touch()
    (tmp_path / "pids").mkdir()
    assert mounted(tmp_path) == ("memory",)
