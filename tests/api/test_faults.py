"""The operator, its rival and the API server die, or the operator is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.cluster import JOBS, PODS, Cluster, until
from tests.api.fault_proxy import FaultProxy, Request
from tests.api.operator_process import Operator
from tests.api.proxy import Fault

from penstock_local.controlplane import ControlPlane

pytestmark = pytest.mark.api

QUOTAS = "/api/v1/namespaces/{namespace}/resourcequotas"

Replica = Callable[[str], Operator]


@pytest.mark.parametrize("moment", ["created", "workers", "ready", "launcher", "running", "ended"])
def test_killed_at_any_stage_and_started_again_it_brings_the_job_to_the_same_end(
    cluster: Cluster, operator: Operator, moment: str
) -> None:
    def strike(now: str) -> None:
        if now == moment:
            operator.kill()
            operator.start()

    cluster.create_job("digits")
    strike("created")
    until(lambda: len(cluster.pods("digits", "worker")) == 2, operator.log)
    until(lambda: len(cluster.ground("digits")) == 2, lambda: cluster.ground("digits"))
    strike("workers")
    cluster.run_workers("digits")
    strike("ready")
    launcher = cluster.launcher("digits")
    strike("launcher")
    cluster.run_pod(launcher, "10.0.1.1")
    strike("running")
    cluster.wait_phase("digits", "Running")
    cluster.end_pod(launcher, 0)
    strike("ended")
    cluster.wait_phase("digits", "Complete")
    until(lambda: cluster.names("digits") == ["digits-launcher"], lambda: cluster.names("digits"))
    status = cluster.job("digits")["status"]
    assert (status["attempt"], status["restarts"]) == (1, {"code": 0, "infrastructure": 0})
    assert cluster.pods("digits")[0]["metadata"]["uid"] == launcher["metadata"]["uid"]


def test_a_secret_whose_write_failed_is_written_before_any_pod_that_needs_it(cluster: Cluster, operator: Operator) -> None:
    cluster.call("POST", QUOTAS, {"metadata": {"name": "no-secrets"}, "spec": {"hard": {"count/secrets": "1"}}})
    until(lambda: "used" in cluster.call("GET", f"{QUOTAS}/no-secrets").get("status", {}), operator.log)
    cluster.create_job("digits")
    cluster.wait_phase("digits", "Pending")
    until(lambda: cluster.job("digits")["status"]["reason"] == "QuotaExceeded", lambda: cluster.job("digits")["status"])
    assert cluster.pods("digits") == []
    cluster.call("DELETE", f"{QUOTAS}/no-secrets")
    until(lambda: len(cluster.pods("digits", "worker")) == 2, operator.log, 45)
    assert len(cluster.ground("digits")) == 2


def test_started_again_over_finished_jobs_it_writes_nothing(cluster: Cluster, operator: Operator) -> None:
    names = [f"done-{number}" for number in range(20)]
    for name in names:
        cluster.create_job(name, workers=1)
    for name in names:
        cluster.complete(name, workers=1)
    operator.settle()
    operator.kill()
    operator.start_and_lead()
    until(lambda: operator.reconciles() >= len(names), operator.metrics)
    assert operator.settle() == 0


def test_it_recovers_when_the_api_server_dies_and_comes_back(cluster: Cluster, operator: Operator, plane: ControlPlane) -> None:
    # A Lease that outlives the outage: losing it ends the process, which is another behaviour.
    operator.kill()
    operator.start_and_lead(PENSTOCK_LEASE_SECONDS="60", PENSTOCK_LEASE_RENEW_SECONDS="1")
    cluster.create_job("before")
    until(lambda: len(cluster.pods("before")) == 2, operator.log)
    plane.kill("kube-apiserver")
    cluster.close()
    noticed = time.monotonic()
    until(lambda: "was not renewed" in operator.log() and time.monotonic() - noticed > 3, operator.log)
    plane.start("kube-apiserver")
    plane.wait_ready()
    cluster.complete("before")
    cluster.create_job("after")
    until(lambda: len(cluster.pods("after")) == 2, operator.log)
    assert operator.leads()


def test_what_was_deleted_while_the_watch_was_away_is_noticed(
    cluster: Cluster, operator: Operator, plane: ControlPlane
) -> None:
    operator.kill()
    operator.start_and_lead(PENSTOCK_LEASE_SECONDS="60", PENSTOCK_LEASE_RENEW_SECONDS="1")
    for name in ("kept", "dropped"):
        cluster.create_job(name)
    cluster.run_workers("kept")
    cluster.run_pod(cluster.launcher("kept"), "10.0.1.1")
    cluster.wait_phase("kept", "Running")
    operator.pause()
    plane.kill("kube-apiserver")
    cluster.close()
    plane.start("kube-apiserver")
    plane.wait_ready()
    lost = cluster.pods("kept", "worker")[1]["metadata"]
    cluster.call("DELETE", f"{PODS}/{lost['name']}", {"gracePeriodSeconds": 0})
    cluster.call("DELETE", f"{JOBS}/dropped")
    operator.resume()
    until(lambda: "kept-worker-1-a2" in cluster.names("kept", "worker"), operator.log)
    assert lost["uid"] not in {pod["metadata"]["uid"] for pod in cluster.pods("kept")}
    until(lambda: 'phase="Running"' not in operator.metrics(), operator.metrics)
    assert operator.jobs() == 1


def test_pods_that_all_went_while_their_watch_was_away_are_noticed(
    cluster: Cluster, replica: Replica, plane: ControlPlane, tmp_path: Path
) -> None:
    operator = replica("operator-0")
    with FaultProxy(plane, tmp_path / "proxied.kubeconfig") as proxy:
        operator.start_and_lead(KUBECONFIG=str(proxy.kubeconfig), PENSTOCK_SWEEP_SECONDS="2")
        cluster.create_job("digits")
        cluster.run_workers("digits")
        until(lambda: cluster.launcher("digits"), operator.log)
        proxy.stall_watches()
        gone = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in cluster.pods("digits")}
        for name in gone.values():
            cluster.call("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
        assert proxy.fail_watches(410, "Expired", "pods") == 1  # the list that follows is empty, and kopf has nothing to show
        until(lambda: len({pod["metadata"]["uid"] for pod in cluster.pods("digits", "worker")} - set(gone)) == 2, operator.log)
        operator.kill()


def test_a_second_replica_stands_by_and_takes_over_when_the_first_is_killed(
    cluster: Cluster, operator: Operator, replica: Replica
) -> None:
    second = replica("operator-1")
    second.start()
    until(lambda: "another replica leads" in second.log(), second.log)
    cluster.create_job("first")
    until(lambda: len(cluster.pods("first")) == 2, operator.log)
    assert second.writes() == 0
    operator.kill()
    until(second.leads, second.log)
    cluster.create_job("second")
    until(lambda: len(cluster.pods("second")) == 2, second.log)


def test_the_lease_is_kept_while_the_caches_fill(
    cluster: Cluster, replica: Replica, plane: ControlPlane, tmp_path: Path
) -> None:
    def listing(request: Request) -> bool:
        return request.verb == "GET" and request.kind == "trainingjobs" and not (request.name or request.watch)

    first, second = replica("operator-0"), replica("operator-1")
    with FaultProxy(plane, tmp_path / "proxied.kubeconfig") as proxy:
        proxy.fault = lambda request: Fault(answer=(503, "ServiceUnavailable")) if listing(request) else None
        first.start(KUBECONFIG=str(proxy.kubeconfig))
        until(lambda: "leading as operator-0" in first.log(), first.log)
        second.start()
        # Every half second, so three times as long as the Lease of 3 s lasts.
        until(lambda: sum(request.kind == "leases" for request in proxy.requests) > 18, first.log)
        assert not second.leads()
        proxy.fault = lambda request: None
        cluster.create_job("digits")
        until(lambda: len(cluster.pods("digits")) == 2, first.log)
        assert (first.leads(), second.writes()) == (True, 0)
        first.kill()


def test_sigterm_ends_it_with_code_0_within_five_seconds(cluster: Cluster, operator: Operator) -> None:
    cluster.create_job("digits")
    until(lambda: len(cluster.pods("digits")) == 2, operator.log)
    begun = time.monotonic()
    code = operator.terminate()
    took = time.monotonic() - begun
    assert (code, took < 5) == (0, True), f"code {code} after {took:.1f} s:\n{operator.log()}"


def test_a_setting_that_cannot_be_read_is_one_line_and_code_1(replica: Replica) -> None:
    made = replica("operator-0")
    made.start(PENSTOCK_WORKERS="many")
    assert made.wait() == 1
    assert made.log() == "penstock-operator: PENSTOCK_WORKERS: found 'many'; expected int\n"
