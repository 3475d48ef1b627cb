"""A second cluster beside the first: they do not meet, the second grows, and its `down` leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_local import cgroups, paths, sysctls
from penstock_local.cluster import Cluster, Config, clusters
from penstock_local.config import is_free
from penstock_local.processes import start_time
from penstock_local.seeds import Archive

sys.path.insert(0, str(Path(__file__).parent))

from fsx_volumes import claim, file_system, mounting

pytestmark = pytest.mark.e2e


def _links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return sorted(line.split()[1] for line in lines if str(paths.state()) in line or "kubernetes.io" in line)


def _spaces(pid: int | str) -> set[str]:
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net", "uts")}
    except OSError:
        return set()


def _processes() -> dict[int, int | None]:
    """All of this machine, with their begin."""
    return {int(one): start_time(int(one)) for one in os.listdir("/proc") if one.isdigit()}


def _values() -> dict[str, str]:
    return {name: Path("/proc/sys", name).read_text() for name in sysctls.NAMES}


def _host_folders() -> dict[str, set[str]]:
    watched = ("/var/lib/kubelet", "/var/lib/cni", "/var/lib/cni/results", "/var/log/pods", "/opt/containerd", "/run/netns")
    return {one: set(os.listdir(one)) if os.path.isdir(one) else set() for one in watched}


def _mount_a_file_system(cluster: Cluster) -> None:
    claim(cluster, "default", "data", file_system(cluster))
    extra = mounting("data")
    container = {"name": "probe", "image": "localhost/penstock-probe:1", "imagePullPolicy": "Never", **extra.pop("container")}
    spec = {"containers": [container], "nodeName": "node2", **extra}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mounts"}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod/mounts", "--for=condition=Ready", "--timeout=60s")


@pytest.mark.usefixtures("still_machine")
def test_a_second_cluster_grows_and_leaves_nothing_behind(
    cluster: Cluster, probe: Archive, eventually: Callable[..., Any]
) -> None:
    second = Cluster(f"{cluster.name}-second")
    second.down()
    before = (_links(), _mounts(), _values(), _host_folders(), clusters())
    second.up(Config(nodes=1), images={"probe": probe})
    second.up(Config(nodes=2), images={"probe": probe}, aws=True)
    assert {node.name for node in second.nodes()} == {"node1", "node2"}
    assert "localhost/penstock-probe:1" in second.node("node2").images()
    second.kubectl("create", "namespace", "only-here")
    assert "only-here" not in cluster.kubectl("get", "namespaces")

    assert not [one for one in second.daemons() if one in cluster.daemons() and second.daemons()[one].pid() is None]
    assert second.aws_environment() != cluster.aws_environment()
    _mount_a_file_system(second)
    port = second.config.aws_port
    assert not is_free(port)

    subprocess.run(["kill", "-9", str(second.node("node1").machine.holder.pid())], check=True)  # down copes with half a cluster
    pids = {pid: start_time(pid) for daemon in second.daemons().values() if (pid := daemon.pid())}
    holders = [second.node("node2").machine.holder.pid(), second.daemons()["control-plane/etcd"].pid()]
    spaces = set().union(*(_spaces(pid) for pid in holders if pid)) - _spaces("self")
    assert len(spaces) == 6
    before_down = _processes()
    second.down()

    assert (_links(), _mounts(), _values(), _host_folders(), clusters()) == before
    assert [pid for pid, begun in pids.items() if start_time(pid) == begun] == []
    # Of those that lived before: the kernel gives a freed namespace's number to the next one, of any pod beside this test.
    assert not spaces & set().union(*(_spaces(pid) for pid, begun in before_down.items() if start_time(pid) == begun))
    assert not second.folder.exists()
    assert is_free(port)
    for top in (cgroups.MOUNT, *cgroups.MOUNT.iterdir()):
        assert not (top / "penstock" / second.name).exists()
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"


def test_down_of_nothing_is_no_error() -> None:
    Cluster("never-made").down()
    assert not Cluster("never-made").exists
