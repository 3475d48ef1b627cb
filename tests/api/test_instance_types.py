"""Instance types with the real API server: every type's pods are taken, and a wrong one is told before any pod is made."""

from __future__ import annotations

import pytest
from tests.api.cluster import JOBS, Cluster, Object, until
from tests.api.operator_process import Operator

from penstock_local.controlplane import ControlPlane
from penstock_operator.cloud.catalogue import load

pytestmark = pytest.mark.api


def create(cluster: Cluster, name: str, workers: Object) -> None:
    spec = {"image": "none", "command": ["true"], "workers": workers}
    body = {"apiVersion": "penstock.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}
    cluster.call("POST", JOBS, body)


def test_the_api_server_takes_the_workers_of_every_type(cluster: Cluster, operator: Operator) -> None:
    types = {name.replace(".", "-"): kind for name, kind in load().types.items()}
    for job, kind in types.items():
        workers = {"replicas": 1, "instanceType": kind.name, "capacityType": "reserved"}
        create(cluster, job, workers)
    until(lambda: all(cluster.names(job) for job in types), lambda: [job for job in types if not cluster.names(job)])
    for job, kind in types.items():
        [pod] = cluster.pods(job)
        assert pod["status"]["qosClass"] == "Guaranteed", job
        resources = pod["spec"]["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"], job
        assert all(resources["limits"][name] == str(count) for name, count in list(kind.devices.items())[:1]), job


def test_a_suspended_job_is_told_what_no_node_could_hold(cluster: Cluster, operator: Operator) -> None:
    workers = {"instanceType": "p4d.24xlarge", "resources": {"limits": {"nvidia.com/gpu": 9}}}
    spec = {"image": "none", "command": ["true"], "workers": workers, "runPolicy": {"suspend": True}}
    body = {"apiVersion": "penstock.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "later"}, "spec": spec}
    cluster.call("POST", JOBS, body)
    until(lambda: cluster.job("later").get("status", {}).get("phase") == "Suspended", operator.log)
    conditions = {each["type"]: each for each in cluster.job("later")["status"]["conditions"]}
    assert (conditions["Stalled"]["status"], conditions["Stalled"]["reason"]) == ("True", "DoesNotFitInstanceType")
    assert "p4d.24xlarge has 8" in conditions["Stalled"]["message"]


def test_a_wrong_type_is_told_in_condition_event_and_column_and_mends_itself(
    cluster: Cluster, operator: Operator, plane: ControlPlane
) -> None:
    create(cluster, "typo", {"replicas": 2, "instanceType": "p4d.24xlrge"})
    until(lambda: cluster.job("typo").get("status", {}).get("reason") == "UnknownInstanceType", operator.log)
    operator.settle()
    assert cluster.names("typo") == []
    query = "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3Dtypo"
    until(lambda: cluster.call("GET", query)["items"], operator.log)
    [event] = cluster.call("GET", query)["items"]
    assert (event["type"], event["reason"]) == ("Warning", "Stalled")
    for word in ("UnknownInstanceType", "spec.workers.instanceType", "p4d.24xlarge", "config.instanceTypes"):
        assert word in event["message"]
    assert "p4d.24xlrge" in plane.kubectl("get", "tj", "-n", cluster.namespace, "-o", "wide")
    cluster.call("PATCH", f"{JOBS}/typo", {"spec": {"workers": {"instanceType": "p4d.24xlarge"}}})
    until(lambda: len(cluster.names("typo")) == 2, lambda: cluster.job("typo")["status"])
