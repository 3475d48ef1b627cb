"""The operator's rights are those it uses: with fewer it cannot run a job, with more this fails.

The audit log of the API server says what the operator asked for while it did all it ever does; the roles must say the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.manifests.operator_process import operator
from tests.manifests.tools import CHART, NAMESPACE, Object, Tools, until

from penstock_local.aws import FakeAWS

ACCOUNT = f"{NAMESPACE}:penstock-operator"
Right = tuple[str, str, str]
"""API group, resource, verb."""


def job(namespace: str, name: str, **run_policy: Any) -> Object:
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"image": "a", "command": ["b"], "workers": {"replicas": 2}, "runPolicy": run_policy},
    }


def pods(tools: Tools, namespace: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in tools.get("pods", "-n", namespace)["items"]}


def told(tools: Tools, namespace: str, field: str = "phase") -> dict[str, str]:
    """That field of each job's status."""
    return {tj["metadata"]["name"]: tj.get("status", {}).get(field, "") for tj in tools.get("tj", "-n", namespace)["items"]}


def set_pod_status(tools: Tools, namespace: str, name: str, **status: Any) -> None:
    """What a kubelet would report."""
    tools.kubectl(
        "patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", f"-p={json.dumps({'status': status})}"
    )


def stand_still(tools: Tools, namespace: str, name: str) -> None:
    """Play the kubelet that finds no volume for a pod."""
    until(lambda: name in pods(tools, namespace), lambda: told(tools, namespace))
    since = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    placed, unprepared = {"type": "PodScheduled", "status": "True"}, {"type": "PodReadyToStartContainers", "status": "False"}
    set_pod_status(tools, namespace, name, conditions=[placed | since, unprepared | since])


def run_to_completion(tools: Tools, namespace: str, name: str) -> None:
    """Play the kubelet for a job of two workers, from its pods' start to its program's end."""
    until(lambda: {f"{name}-worker-0", f"{name}-worker-1"} <= pods(tools, namespace), lambda: told(tools, namespace))
    for index in range(2):
        ready = [{"type": "Ready", "status": "True"}]
        set_pod_status(
            tools, namespace, f"{name}-worker-{index}", phase="Running", podIP=f"10.0.0.{index + 1}", conditions=ready
        )
    until(lambda: f"{name}-launcher" in pods(tools, namespace), lambda: told(tools, namespace))
    ended = {"name": "launcher", "image": "a", "imageID": "", "ready": False, "restartCount": 0}
    ended["state"] = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-01T00:00:00Z"}}
    set_pod_status(tools, namespace, f"{name}-launcher", phase="Succeeded", containerStatuses=[ended])


def asked(audit_log: Path, account: str) -> list[dict[str, Any]]:
    user = f"system:serviceaccount:{account}"
    requests = [json.loads(line) for line in audit_log.read_text().splitlines()]
    return [one for one in requests if one["user"]["username"] == user and "objectRef" in one]


def used(requests: list[dict[str, Any]]) -> set[Right]:
    found = set()
    for one in requests:
        about = one["objectRef"]
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        found.add((about.get("apiGroup", ""), resource, one["verb"]))
    return found


def granted(*roles: Object) -> set[Right]:
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture
def team(installed: Tools) -> Iterator[Tools]:
    """Two namespaces, in which Pod Security `restricted` is enforced."""
    for name in ("team-a", "team-b"):
        installed.namespace(name)
    yield installed
    for name in ("team-a", "team-b"):
        installed.kubectl("delete", "tj", "--all", "-n", name)
        installed.kubectl("delete", "networkpolicy", "--all", "-n", name)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAWS]:
    with FakeAWS(tmp_path_factory.mktemp("aws")) as started:
        started.control.configure({"fsx.createSeconds": 0})
        yield started


def volume(namespace: str, name: str, aws: FakeAWS) -> Object:
    subnet = aws.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "LustreVolume",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"create": {"subnetId": subnet}},
    }


def volumes(tools: Tools, namespace: str) -> dict[str, str]:
    return {
        one["metadata"]["name"]: one.get("status", {}).get("phase", "") for one in tools.get("lvol", "-n", namespace)["items"]
    }


def test_the_operator_uses_every_right_it_has_and_is_refused_nothing(
    team: Tools, audit_log: Path, tmp_path: Path, aws: FakeAWS
) -> None:
    with operator(team, NAMESPACE, tmp_path, aws.environment() | {"PENSTOCK_RESYNC_SECONDS": "3"}) as log:
        team.apply(volume("team-a", "data", aws))
        until(lambda: volumes(team, "team-a") == {"data": "Available"}, log)
        team.kubectl("delete", "lvol", "data", "-n", "team-a", "--timeout=60s")
        # Namesakes of a NetworkPolicy and of a worker, neither ours: the operator must look at them to tell.
        foreign = {"metadata": {"name": "taken-ring", "namespace": "team-b"}, "spec": {"podSelector": {}}}
        team.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **foreign})
        team.apply(restricted_pod("team-b", "other-worker-0"))
        team.apply(
            job("team-b", "taken"),
            job("team-b", "other"),
            job("team-a", "digits", cleanPodPolicy="All", ttlSecondsAfterFinished=2),
        )
        stand_still(team, "team-a", "digits-worker-0")
        until(lambda: told(team, "team-a", "reason")["digits"] == "PodNotPrepared", log)
        run_to_completion(team, "team-a", "digits")
        until(lambda: "digits" not in told(team, "team-a"), log)
        until(lambda: team.kubectl("get", "events", "-n", "team-b").count("NameConflict") >= 2, log)
        assert team.get("secrets", "-n", "team-b")["items"], log()
    requests = asked(audit_log, ACCOUNT)
    refused = [one for one in requests if one["responseStatus"]["code"] in (401, 403)]
    assert not refused, refused
    cluster_wide = ("penstock-operator", "penstock-operator-persistent-volumes")
    roles = [team.get("clusterrole", name) for name in cluster_wide]
    roles.append(team.get("role", "penstock-operator-own-namespace", "-n", NAMESPACE))
    # Asked for by admission, not by a request: without it this API server would have refused every child.
    finalizers = {("penstock.dev", f"{kind}/finalizers", "update") for kind in ("trainingjobs", "lustrevolumes")}
    assert used(requests) | finalizers == granted(*roles)


def restricted_pod(namespace: str, name: str) -> Object:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "a", "securityContext": security}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_limited_to_a_namespace_the_operator_serves_it_and_has_no_right_elsewhere(
    team: Tools, audit_log: Path, tmp_path: Path
) -> None:
    home, account = "ml-platform", "ml-platform:penstock-operator"
    team.namespace(home)
    team.helm(
        *("install", "penstock", str(CHART), f"--namespace={home}"),
        "--set=watchNamespaces={team-a},crds.enabled=false,aggregateRoles.kubernetes=false",
    )
    with operator(team, home, tmp_path) as log:
        team.apply(job("team-b", "elsewhere"), job("team-a", "digits"))
        run_to_completion(team, "team-a", "digits")
        until(lambda: told(team, "team-a") == {"digits": "Complete"}, log)
        assert told(team, "team-b") == {"elsewhere": ""}
    refused = [one for one in asked(audit_log, account) if one["responseStatus"]["code"] in (401, 403)]
    assert not refused, refused
    assert "warning" not in log()
    assert team.can(account, "create", "pods", "-n", "team-a")
    assert not team.can(account, "create", "pods", "-n", "team-b")
    assert not team.can(account, "list", "trainingjobs", "--all-namespaces")
    team.helm("uninstall", "penstock", f"--namespace={home}")


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("create", "pods --subresource=exec", "team-a"),
        ("get", "pods --subresource=log", "team-a"),
        ("create", "pods --subresource=ephemeralcontainers", "team-a"),
        ("patch", "pods", "team-a"),
        ("list", "secrets", "team-a"),
        ("get", "secrets", "team-a"),
        ("watch", "secrets", NAMESPACE),
        ("get", "secrets", NAMESPACE),
        ("get", "secrets/another", NAMESPACE),
        ("delete", "secrets", "team-a"),
        ("get", "secrets/penstock-operator-key", "team-a"),
        ("get", "configmaps", "team-a"),
        ("create", "trainingjobs", "team-a"),
        ("update", "trainingjobs", "team-a"),
        ("patch", "trainingjobs", "team-a"),
        ("delete", "lustrevolumes", "team-a"),
        ("patch", "persistentvolumes", "team-a"),
        ("list", "persistentvolumeclaims", "team-a"),
        ("delete", "leases", NAMESPACE),
        ("get", "leases", "kube-system"),
        ("create", "serviceaccounts --subresource=token", NAMESPACE),
        ("impersonate", "users", "team-a"),
        ("list", "nodes", "team-a"),
        ("list", "customresourcedefinitions", "team-a"),
        ("escalate", "clusterroles", "team-a"),
    ],
)
def test_the_operator_must_not(installed: Tools, verb: str, resource: str, where: str) -> None:
    assert not installed.can(ACCOUNT, verb, *resource.split(), "-n", where)


def test_the_operator_may_read_its_own_key(installed: Tools) -> None:
    assert installed.can(ACCOUNT, "get", "secrets/penstock-operator-key", "-n", NAMESPACE)


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", ("get", "list", "watch"), ("create", "update", "delete")),
        ("edit", ("get", "create", "update", "patch", "delete"), ()),
        ("admin", ("get", "create", "update", "patch", "delete"), ()),
    ],
)
def test_kubernetes_own_roles_hold_trainingjobs(
    installed: Tools, role: str, may: tuple[str, ...], may_not: tuple[str, ...]
) -> None:
    installed.namespace("team-c")
    installed.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--serviceaccount=team-c:{role}", "-n", "team-c")
    until(lambda: installed.can(f"team-c:{role}", "get", "trainingjobs", "-n", "team-c"), lambda: "the role is not aggregated")
    assert all(installed.can(f"team-c:{role}", verb, "trainingjobs", "-n", "team-c") for verb in may)
    assert not any(installed.can(f"team-c:{role}", verb, "trainingjobs", "-n", "team-c") for verb in may_not)
    assert not installed.can(f"team-c:{role}", "patch", "trainingjobs", "--subresource=status", "-n", "team-c")
