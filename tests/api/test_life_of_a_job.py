"""One job from create to its end, as the API server shows it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from base64 import b64decode

import pytest
from tests.api.cluster import JOBS, PODS, Cluster, Object, Refused, until
from tests.api.operator_process import Operator

from penstock_local.controlplane import ControlPlane
from penstock_operator.trainingjob.children.keys import progress_token

pytestmark = pytest.mark.api


def owned_by(child: Object, job: Object) -> bool:
    [owner] = child["metadata"]["ownerReferences"]
    return bool(owner["uid"] == job["metadata"]["uid"] and owner["controller"])


def test_a_new_job_gets_a_secret_a_network_policy_and_its_workers_all_owned_by_it(cluster: Cluster, operator: Operator) -> None:
    job = cluster.create_job("digits", workers=3)
    until(lambda: len(cluster.pods("digits")) == 3, lambda: cluster.names("digits"))
    operator.settle()
    assert cluster.names("digits") == ["digits-worker-0", "digits-worker-1", "digits-worker-2"]
    query = "?labelSelector=penstock.dev/job-name%3Ddigits"
    secrets = cluster.call("GET", "/api/v1/namespaces/{namespace}/secrets" + query)["items"]
    policies = cluster.call("GET", "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")["items"]
    assert len(secrets) == len(policies) == 1
    assert all(owned_by(child, job) for child in (*secrets, *policies, *cluster.pods("digits")))


def test_the_launcher_comes_when_all_workers_are_ready_and_the_job_ends_with_it(
    cluster: Cluster, operator: Operator, plane: ControlPlane
) -> None:
    cluster.create_job("digits")
    until(lambda: len(cluster.pods("digits")) == 2, lambda: cluster.names("digits"))
    first, second = cluster.pods("digits")
    cluster.run_pod(first, "10.0.0.1")
    until(lambda: cluster.job("digits").get("status", {}).get("summary", {}).get("workers") == "1/2", operator.log)
    assert cluster.names("digits", "launcher") == []
    cluster.run_pod(second, "10.0.0.2")
    launcher = cluster.launcher("digits")
    hosts = launcher["metadata"]["annotations"]["penstock.dev/hostfile"].splitlines()
    assert [line.split()[0] for line in hosts] == ["10.0.0.1", "10.0.0.2"]
    cluster.run_pod(launcher, "10.0.1.1")
    cluster.wait_phase("digits", "Running")
    row = plane.kubectl("get", "tj", "-n", cluster.namespace, "--no-headers").split()
    assert row[:2] == ["digits", "Running"]
    assert "2/2" in row
    cluster.end_pod(launcher, 0)
    cluster.wait_phase("digits", "Complete")
    until(lambda: cluster.names("digits") == ["digits-launcher"], lambda: cluster.names("digits"))
    assert plane.kubectl("get", "tj", "-n", cluster.namespace, "--no-headers").split()[:2] == ["digits", "Complete"]


def test_a_finished_job_is_deleted_after_its_time_to_live(cluster: Cluster, operator: Operator) -> None:
    cluster.create_job("brief", runPolicy={"ttlSecondsAfterFinished": 1})
    cluster.run_workers("brief")
    cluster.end_pod(cluster.launcher("brief"), 0)
    until(lambda: cluster.jobs() == [], lambda: cluster.job("brief")["status"])


def test_a_pod_of_the_same_name_that_is_not_ours_is_not_adopted(cluster: Cluster, operator: Operator) -> None:
    spec = {"containers": [{"name": "a", "image": "b"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "digits-worker-0"}, "spec": spec}
    foreign = cluster.call("POST", PODS, body)
    cluster.create_job("digits")
    until(lambda: cluster.job("digits").get("status", {}).get("reason") == "NameConflict", operator.log)
    now = cluster.call("GET", f"{PODS}/digits-worker-0")
    assert now["metadata"]["uid"] == foreign["metadata"]["uid"]
    assert "ownerReferences" not in now["metadata"]
    cluster.call("DELETE", f"{JOBS}/digits")


def test_a_job_applied_again_waits_for_the_pods_of_the_deleted_one(cluster: Cluster, operator: Operator) -> None:
    cluster.create_job("digits")
    until(lambda: len(cluster.pods("digits")) == 2, operator.log)
    held = {"metadata": {"finalizers": ["example.com/still-writing-a-checkpoint"]}}
    cluster.call("PATCH", f"{PODS}/digits-worker-0", held)
    cluster.call("DELETE", f"{JOBS}/digits")
    until(lambda: cluster.names("digits") == ["digits-worker-0"], lambda: cluster.names("digits"))
    again = cluster.create_job("digits")
    until(lambda: cluster.job("digits").get("status", {}).get("reason") == "WaitingForPredecessor", operator.log)
    assert cluster.names("digits") == ["digits-worker-0"]
    cluster.call("PATCH", f"{PODS}/digits-worker-0", {"metadata": {"finalizers": None}})
    until(lambda: len(cluster.pods("digits")) == 2, lambda: cluster.job("digits").get("status"))
    assert all(owned_by(pod, again) for pod in cluster.pods("digits"))
    assert not [one for one in cluster.job("digits")["status"]["conditions"] if one["type"] == "Stalled"]


def test_a_misspelt_field_that_ends_in_a_pod_is_told_by_the_field_of_the_job(cluster: Cluster, operator: Operator) -> None:
    volumes = [{"name": "scratch", "mountPath": "/scratch", "emptyDir": {"sizelimit": "1Gi"}}]
    template = {"spec": {"nodeselector": {"disk": "fast"}}}
    cluster.create_job("digits", volumes=volumes, launcher={"template": template})
    # The launcher comes last, but is asked about first: nothing waits for its correction with a ring in hand.
    both = 'unknown field "spec.volumes[scratch].emptyDir.sizelimit", unknown field "spec.launcher.template.spec.nodeselector"'
    until(lambda: cluster.stalled("digits") == f"Pod digits-launcher was refused: {both}", operator.log)
    assert cluster.names("digits") == []
    mended = [{"name": "scratch", "mountPath": "/scratch", "emptyDir": {}}]
    cluster.call("PATCH", f"{JOBS}/digits", {"spec": {"volumes": mended}})
    until(
        lambda: cluster.stalled("digits").endswith('refused: unknown field "spec.launcher.template.spec.nodeselector"'),
        operator.log,
    )
    cluster.call("PATCH", f"{JOBS}/digits", {"spec": {"launcher": {"template": {"spec": {"nodeselector": None}}}}})
    cluster.complete("digits")


def test_the_kubelets_words_about_a_pod_without_its_volumes_are_in_the_status(cluster: Cluster, operator: Operator) -> None:
    volumes = [{"name": "settings", "mountPath": "/settings", "configMap": {"name": "nosuch"}}]
    cluster.create_job("digits", volumes=volumes)
    until(lambda: len(cluster.pods("digits")) == 2, operator.log)
    pod = cluster.pods("digits")[0]
    cluster.warn(pod, 'MountVolume.SetUp failed for volume "settings" : configmap "nosuch" not found')
    cluster.warn(pod, "Unable to attach or mount volumes: unmounted volumes=[settings]: timed out waiting for the condition")
    since = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    placed, unprepared = {"type": "PodScheduled", "status": "True"}, {"type": "PodReadyToStartContainers", "status": "False"}
    status = {"conditions": [placed | since, unprepared | since]}
    cluster.call("PATCH", f"{PODS}/{pod['metadata']['name']}/status", {"status": status})
    told = 'volume "settings" : configmap "nosuch" not found; see spec.volumes[settings].configMap'
    until(lambda: told in cluster.stalled("digits"), operator.log)


def test_a_network_policy_that_the_deleted_job_leaves_behind_is_waited_for(cluster: Cluster, operator: Operator) -> None:
    policies = "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    cluster.create_job("digits")
    until(lambda: len(cluster.pods("digits")) == 2, operator.log)
    cluster.call("PATCH", f"{policies}/digits-ring", {"metadata": {"finalizers": ["example.com/slow"]}})
    cluster.call("DELETE", f"{JOBS}/digits")
    until(lambda: cluster.names("digits") == [], lambda: cluster.names("digits"))
    cluster.create_job("digits")
    until(lambda: cluster.job("digits").get("status", {}).get("reason") == "WaitingForPredecessor", operator.log)
    cluster.call("PATCH", f"{policies}/digits-ring", {"metadata": {"finalizers": None}})
    until(lambda: len(cluster.pods("digits")) == 2, lambda: cluster.job("digits").get("status"))


def post_progress(operator: Operator, job: Object, token: str) -> int:
    metadata = job["metadata"]
    url = f"http://127.0.0.1:{operator.port}/v1/progress/{metadata['namespace']}/{metadata['name']}/{metadata['uid']}"
    body = json.dumps({"step": 40, "totalSteps": 100, "metrics": {"loss": 0.5}}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_progress_is_taken_with_the_jobs_token_only_and_shows_in_the_status(cluster: Cluster, operator: Operator) -> None:
    job = cluster.create_job("digits")
    cluster.run_workers("digits")
    cluster.run_pod(cluster.launcher("digits"), "10.0.1.1")
    cluster.wait_phase("digits", "Running")
    secret = cluster.call("GET", "/api/v1/namespaces/{namespace}/secrets/penstock-operator-key")
    key = b64decode(secret["data"]["key"])
    assert post_progress(operator, job, progress_token(key, cluster.namespace, "other", job["metadata"]["uid"])) == 401
    assert "progress" not in cluster.job("digits")["status"]
    assert post_progress(operator, job, progress_token(key, cluster.namespace, "digits", job["metadata"]["uid"])) == 204

    def shown() -> dict[str, object]:
        return dict(cluster.job("digits")["status"])

    until(lambda: cluster.job("digits")["status"].get("progress", {}).get("step") == 40, shown)
    assert cluster.job("digits")["status"]["progress"]["metrics"] == {"loss": 0.5}


def test_a_touched_job_and_a_touched_pod_cause_a_reconcile_that_writes_nothing(cluster: Cluster, operator: Operator) -> None:
    cluster.create_job("digits")
    cluster.run_workers("digits")
    cluster.run_pod(cluster.launcher("digits"), "10.0.1.1")
    cluster.wait_phase("digits", "Running")
    before, looked = operator.settle(), operator.reconciles()
    touch = {"metadata": {"annotations": {"example.com/touched": "yes"}}}
    cluster.call("PATCH", f"{JOBS}/digits", touch)
    until(lambda: operator.reconciles() > looked, operator.metrics)
    looked = operator.reconciles()
    cluster.call("PATCH", f"{PODS}/digits-worker-0", touch)
    until(lambda: operator.reconciles() > looked, operator.metrics)
    assert operator.settle() == before


def test_a_job_that_is_deleted_takes_its_children_along(cluster: Cluster, operator: Operator) -> None:
    cluster.create_job("digits")
    cluster.run_workers("digits")
    cluster.launcher("digits")
    cluster.call("DELETE", f"{JOBS}/digits")
    until(lambda: cluster.pods("digits") == [], lambda: cluster.names("digits"))
    with pytest.raises(Refused, match="404"):
        cluster.job("digits")
