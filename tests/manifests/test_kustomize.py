"""manifests/ gives by kustomize what the chart gives by Helm, and the real API server takes it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.manifests.tools import CRD_NAMES, ROOT, Object, Tools, one

from penstock_local.readiness import wait_crds

Identity = tuple[str, str, str]


def build(tools: Tools, overlay: str) -> list[Object]:
    return list(yaml.safe_load_all(tools.kubectl("kustomize", str(ROOT / "manifests/overlays" / overlay))))


def content(objects: list[Object]) -> dict[Identity, dict[str, Any]]:
    """What each object is for, without labels and annotations: those tell who manages it."""
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): {
            key: value for key, value in each.items() if key not in ("apiVersion", "kind", "metadata")
        }
        for each in objects
        if each["kind"] != "Namespace"
    }


def test_the_standalone_overlay_is_the_chart_with_its_default_values(bare: Tools) -> None:
    assert content(build(bare, "standalone")) == content(bare.render())


def test_the_kubeflow_overlay_is_the_chart_with_values_for_kubeflow(bare: Tools) -> None:
    values = "--set=aggregateRoles.kubernetes=false,aggregateRoles.kubeflow=true,networkPolicy.enabled=true"
    assert content(build(bare, "kubeflow")) == content(bare.render("--namespace=kubeflow", values))


@pytest.mark.parametrize(("overlay", "namespace"), [("standalone", "penstock-system"), ("kubeflow", "kubeflow")])
def test_an_overlay_is_applied_whole_to_a_cluster(bare: Tools, overlay: str, namespace: str) -> None:
    if overlay == "kubeflow":
        bare.namespace(namespace)
    folder = str(ROOT / "manifests/overlays" / overlay)
    bare.kubectl("apply", "--server-side", "-k", folder)
    try:
        wait_crds(bare.kubectl, *CRD_NAMES)
        assert bare.get("namespace", namespace)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        assert bare.get("deployment", "penstock-operator", "-n", namespace)["spec"]["replicas"] == 1
        assert bare.can(f"{namespace}:penstock-operator", "create", "pods", "-n", "anywhere")
        assert bare.can(f"{namespace}:penstock-operator", "get", "secrets/penstock-operator-key", "-n", namespace)
        assert bare.kubectl("diff", "--server-side", "-k", folder) == ""
    finally:
        # The namespace stays: no controller runs here that could empty it.
        objects = [each for each in build(bare, overlay) if each["kind"] != "Namespace"]
        bare.kubectl("delete", "-f", "-", "--timeout=120s", stdin=yaml.safe_dump_all(objects))


def test_nothing_of_helm_is_left_in_what_kustomize_applies(bare: Tools) -> None:
    for overlay in ("standalone", "kubeflow"):
        assert "helm" not in yaml.safe_dump_all(build(bare, overlay)).lower()


def test_no_sidecar_stands_between_job_pods_and_the_operator(bare: Tools) -> None:
    labels = one(build(bare, "kubeflow"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["sidecar.istio.io/inject"] == "false"
