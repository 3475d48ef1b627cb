"""What a cluster on this machine gives its users."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from penstock_local import status
from penstock_local.cluster import Cluster, Config
from penstock_local.errors import LocalError

pytestmark = pytest.mark.e2e

RunPod = Callable[..., dict[str, Any]]


def _nodes(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    return found


def test_nodes_carry_what_an_eks_gpu_node_has(cluster: Cluster) -> None:
    for node, zone in zip(_nodes(cluster), ("us-east-1a", "us-east-1b"), strict=True):
        labels, can = node["metadata"]["labels"], node["status"]["allocatable"]
        assert labels["node.kubernetes.io/instance-type"] == "p4d.24xlarge"
        assert labels["topology.kubernetes.io/region"] == "us-east-1"
        assert labels["topology.kubernetes.io/zone"] == zone
        assert labels["karpenter.sh/capacity-type"] == "spot"
        assert labels["eks.amazonaws.com/capacityType"] == "SPOT"
        assert (can["nvidia.com/gpu"], can["vpc.amazonaws.com/efa"]) == ("8", "4")


def test_up_again_is_a_no_op(cluster: Cluster) -> None:
    before = {name: daemon.pid() for name, daemon in cluster.daemons().items()}
    begun = time.monotonic()
    cluster.up()
    assert {name: daemon.pid() for name, daemon in cluster.daemons().items()} == before
    assert None not in before.values()
    assert time.monotonic() - begun < 15


def test_a_pod_reaches_the_api_server_by_its_service_and_names_resolve(cluster: Cluster, run_pod: RunPod) -> None:
    run_pod("inside")
    log = cluster.kubectl("logs", "inside")
    assert "resolved 10.96.0.1 <nil>" in log
    assert 'api 200 { "major": "1"' in log


def test_pods_on_different_nodes_reach_each_other_and_exec_runs_in_them(cluster: Cluster, run_pod: RunPod) -> None:
    first = run_pod("first", nodeName="node1")
    run_pod("second", nodeName="node2")
    answer = cluster.kubectl("exec", "second", "--", "/probe", "get", f"http://{first['status']['podIP']}:8080")
    assert answer == "200 hello from first"


def test_gpu_pods_are_scheduled_by_what_nodes_have_left(cluster: Cluster, run_pod: RunPod) -> None:
    gpus = {"resources": {"limits": {"nvidia.com/gpu": "8"}}}

    def container() -> dict[str, Any]:
        return {"name": "probe", "image": "localhost/penstock-probe:1", "imagePullPolicy": "Never", **gpus}

    used = {run_pod(name, containers=[container()])["spec"]["nodeName"] for name in ("gpu-a", "gpu-b")}
    assert used == {"node1", "node2"}
    spec = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gpu-c"}, "spec": {"containers": [container()]}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(spec))
    cluster.kubectl("wait", "pod/gpu-c", "--for=condition=PodScheduled=false", "--timeout=20s")
    waiting = json.loads(cluster.kubectl("get", "pod", "gpu-c", "-o", "json"))["status"]["conditions"][0]
    cluster.kubectl("delete", "pod", "gpu-c")
    assert "Insufficient nvidia.com/gpu" in waiting["message"]


def test_pod_security_refuses_a_privileged_pod_in_a_restricted_namespace(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "restricted")
    cluster.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(LocalError, match='violates PodSecurity "restricted:latest"'):
        cluster.kubectl("-n", "restricted", "run", "bad", "--image=localhost/penstock-probe:1", "--privileged")
    cluster.kubectl("delete", "namespace", "restricted", "--wait=false")


def test_status_tells_processes_nodes_and_images(cluster: Cluster) -> None:
    page, well = status.report(cluster)
    assert well
    assert "control-plane/kube-apiserver" in page
    assert "p4d.24xlarge" in page
    assert "probe" in page
    assert f"export KUBECONFIG={cluster.kubeconfig}" in page
    assert "not running" not in page


def test_an_existing_cluster_cannot_become_another_one(cluster: Cluster) -> None:
    with pytest.raises(LocalError, match=r"gpus 8, asked for 2.*penstock local reset"):
        cluster.up(Config(quick_failure=True, gpus=2))


def test_unknown_names_are_answered_with_those_there_are(cluster: Cluster) -> None:
    with pytest.raises(LocalError, match="there are: node1, node2"):
        cluster.stop_kubelet("node7")
    with pytest.raises(LocalError, match="control-plane/etcd"):
        cluster.kill("etcd")
    with pytest.raises(LocalError, match=rf"there are:.*{cluster.name}"):
        Cluster("never-made").nodes()
