"""A release's life with real Helm on the real API server: install, upgrade with a changed CRD, uninstall, install again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.manifests.tools import CHART, CRD_NAME, CRD_NAMES, NAMESPACE, ROOT, Object, Refused, Tools, one

from penstock_local.readiness import wait_crds

CRD_FILES = ROOT / "manifests/crds"
KINDS = "deployments,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,networkpolicies"
JOB: Object = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "TrainingJob",
    "metadata": {"name": "kept", "namespace": "default"},
    "spec": {"image": "a", "command": ["b"]},
}


@pytest.fixture
def cluster(bare: Tools) -> Iterator[Tools]:
    """A cluster without Penstock, before and after."""
    bare.namespace(NAMESPACE)
    yield bare
    for release in bare.helm("list", "--all-namespaces", "--short").split():
        bare.helm("uninstall", release, f"--namespace={NAMESPACE}")
    bare.kubectl("delete", "crd", *CRD_NAMES, "--ignore-not-found", "--timeout=120s")


def install(cluster: Tools, *arguments: str) -> None:
    cluster.helm("install", "penstock", str(CHART), f"--namespace={NAMESPACE}", *arguments)
    wait_crds(cluster.kubectl, *CRD_NAMES)


def left(cluster: Tools) -> list[str]:
    """What carries the release's label."""
    selector = "--selector=app.kubernetes.io/instance=penstock"
    return cluster.kubectl("get", KINDS, "--all-namespaces", selector, "-o", "name").split()


def next_version(folder: Path) -> Path:
    """A later chart, whose CRD has one more field."""
    chart = Path(shutil.copytree(CHART, folder / "chart"))
    text = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(text.replace("ersion: 0.1.0", "ersion: 0.2.0"))
    template = chart / "templates" / "crd-trainingjobs.yaml"
    field = "            properties:\n              image:\n"
    assert template.read_text().count(field) == 1
    added = "            properties:\n              next:\n                type: string\n              image:\n"
    template.write_text(template.read_text().replace(field, added))
    return chart


def test_an_upgrade_carries_changes_of_the_crd_and_keeps_jobs(cluster: Tools, tmp_path: Path) -> None:
    install(cluster)
    cluster.apply(JOB)
    with pytest.raises(Refused, match=r"unknown field .spec\.next"):
        cluster.apply({**JOB, "spec": {**JOB["spec"], "next": "x"}})
    cluster.helm("upgrade", "penstock", str(next_version(tmp_path)), f"--namespace={NAMESPACE}", "--set=config.workers=4")
    cluster.apply({**JOB, "spec": {**JOB["spec"], "next": "x"}})
    assert cluster.get("tj", "kept")["spec"]["next"] == "x"
    [container] = cluster.get("deployment", "penstock-operator", "-n", NAMESPACE)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "penstock/operator:0.2.0"
    assert {"name": "PENSTOCK_WORKERS", "value": "4"} in container["env"]


def test_after_uninstall_only_the_crd_and_its_jobs_are_left_and_installing_again_takes_them_up(cluster: Tools) -> None:
    install(cluster)
    cluster.apply(JOB)
    assert len(left(cluster)) == 11
    cluster.helm("uninstall", "penstock", f"--namespace={NAMESPACE}")
    assert left(cluster) == []
    assert cluster.get("tj", "kept")["metadata"]["name"] == "kept"
    install(cluster)
    assert cluster.get("tj", "kept")["metadata"]["name"] == "kept"


def test_a_crd_that_is_not_to_be_kept_goes_with_the_release(cluster: Tools) -> None:
    install(cluster, "--set=crds.keep=false")
    cluster.helm("uninstall", "penstock", f"--namespace={NAMESPACE}")
    cluster.kubectl("wait", "--for=delete", *(f"crd/{name}" for name in CRD_NAMES), "--timeout=120s")


def test_a_crd_applied_by_kubectl_is_taken_over_only_when_asked(cluster: Tools) -> None:
    cluster.kubectl("apply", "--server-side", "-k", str(CRD_FILES))
    with pytest.raises(Refused, match="invalid ownership metadata"):
        install(cluster)
    install(cluster, "--take-ownership")


def test_with_the_crd_left_out_helm_installs_beside_one_that_is_there(cluster: Tools) -> None:
    cluster.kubectl("apply", "--server-side", "-k", str(CRD_FILES))
    install(cluster, "--set=crds.enabled=false")
    cluster.helm("uninstall", "penstock", f"--namespace={NAMESPACE}")
    assert cluster.get("crd", CRD_NAME)


def operator_pod(objects: list[Object], namespace: str) -> Object:
    """The pod that the Deployment would make. A pod is refused where a Deployment only gets a warning."""
    template = one(objects, "Deployment")["spec"]["template"]
    metadata = {**template["metadata"], "name": "probe", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_the_operators_pod_is_allowed_under_pod_security_restricted(cluster: Tools) -> None:
    install(cluster)
    pod = operator_pod(cluster.render(), NAMESPACE)
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))
    del pod["spec"]["securityContext"]
    with pytest.raises(Refused, match='violates PodSecurity "restricted:latest"'):
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))
