"""Faults: what dies is seen by the API server, and `up` brings it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from penstock_local import cgroups, status
from penstock_local.cluster import Cluster
from penstock_local.namespaces import Machine

pytestmark = pytest.mark.e2e

RunPod = Callable[..., dict[str, Any]]


def _ready(cluster: Cluster, node: str) -> str:
    found = json.loads(cluster.kubectl("get", "node", node, "-o", "json"))
    return next(str(one["status"]) for one in found["status"]["conditions"] if one["type"] == "Ready")


def _gpus(cluster: Cluster, node: str) -> str:
    return str(json.loads(cluster.kubectl("get", "node", node, "-o", "json"))["status"]["allocatable"]["nvidia.com/gpu"])


def test_every_process_killed_is_started_again_and_pods_went_on(cluster: Cluster, run_pod: RunPod) -> None:
    pod = run_pod("survivor")
    for name in cluster.daemons():
        cluster.kill(name)
    page, well = status.report(cluster)
    assert not well
    assert f"penstock local up --name {cluster.name}" in page
    cluster.up()
    assert all(daemon.pid() for daemon in cluster.daemons().values())
    after = json.loads(cluster.kubectl("get", "pod", "survivor", "-o", "json"))
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_after_a_reboot_the_same_cluster_comes_back(cluster: Cluster, run_pod: RunPod) -> None:
    """All that a reboot takes: every process, namespace, mount and cgroup; files stay."""
    run_pod("rebooted", nodeName="node2")
    cluster.kill("host/forward")
    for name in ("control-plane", "node1", "node2"):
        Machine(cluster.folder / name, name).destroy()
    cgroups.remove(f"penstock/{cluster.name}")
    cluster.up()
    cluster.kubectl("wait", "pod/rebooted", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=60s")
    cluster.kubectl("wait", "pod/rebooted", "--for=condition=Ready", "--timeout=60s")
    assert "resolved 10.96.0.1 <nil>" in cluster.kubectl("logs", "rebooted")


def test_a_node_that_lost_its_namespaces_is_made_again(cluster: Cluster, eventually: Callable[..., Any]) -> None:
    cluster.node("node1").machine.holder.stop(kill=True)
    cluster.up()
    eventually(lambda: _ready(cluster, "node1") == "True", "node1 Ready", state=lambda: cluster.kubectl("describe", "nodes"))


def test_a_dead_kubelet_is_seen_and_its_node_keeps_its_gpus_when_it_is_back(
    cluster: Cluster, eventually: Callable[..., Any]
) -> None:
    cluster.stop_kubelet("node1")
    eventually(lambda: _ready(cluster, "node1") == "Unknown", "node1 Unknown", 20, lambda: cluster.kubectl("get", "nodes"))
    # Not start_kubelet, which would put the resources back: the kubelet itself must not take them away.
    cluster.node("node1").start_kubelet()
    eventually(lambda: _ready(cluster, "node1") == "True", "node1 Ready", 20, lambda: cluster.kubectl("get", "nodes"))
    assert _gpus(cluster, "node1") == "8"


def test_a_cut_link_is_seen_and_joined_again(cluster: Cluster, eventually: Callable[..., Any]) -> None:
    cluster.link("node2", up=False)
    eventually(lambda: _ready(cluster, "node2") == "Unknown", "node2 Unknown", 30, lambda: cluster.kubectl("get", "nodes"))
    cluster.link("node2", up=True)
    eventually(lambda: _ready(cluster, "node2") == "True", "node2 Ready", 30, lambda: cluster.kubectl("get", "nodes"))
