"""Deployments with KServe's kind on a real API server; the test plays KServe itself: its pods and its status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.cluster import PODS, until
from tests.components.model_server import Model
from tests.components.played import Played

from penstock_components.deployment.deploy import kserve
from penstock_components.deployment.deploy.request import REVISION, Serving, inference_service, revision
from penstock_components.deployment.deploy.rollout import Outcome, deploy
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object
from penstock_local.controlplane import ControlPlane
from penstock_local.errors import LocalError

pytest_plugins = ["tests.components.api_server"]

KSERVE_CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: inferenceservices.serving.kserve.io}
spec:
  group: serving.kserve.io
  scope: Namespaced
  names: {kind: InferenceService, listKind: InferenceServiceList, plural: inferenceservices, singular: inferenceservice}
  versions:
  - name: v1beta1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def wanted(cluster: Played, **more: Any) -> Serving:
    given: dict[str, Any] = {"image": "none", "model_uri": "s3://b/m", "mode": "KServe", "ready_minutes": 0.5, **more}
    return Serving(name="digits", namespace=cluster.namespace, **given)


@pytest.fixture
def with_kserve(plane: ControlPlane, cluster: Played) -> Iterator[Kube]:
    """KServe's kind on the API server; without its schema, which this repository does not have."""
    plane.kubectl("apply", "-f", "-", stdin=KSERVE_CRD)
    kube = Kube(cluster.namespace)
    until(lambda: kube.knows("serving.kserve.io/v1beta1", "InferenceService"), lambda: "not served")
    yield kube
    plane.kubectl("delete", "crd", "inferenceservices.serving.kserve.io")
    until(lambda: not Kube().knows("serving.kserve.io/v1beta1", "InferenceService"), lambda: "still served")


ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices"


def play_kserve(mine: Played) -> None:
    """As KServe: a pod with the object's labels, and Ready once it runs. An image called `bad` never gets ready."""
    for found in mine.call("GET", ISVC)["items"]:
        meta = found["metadata"]
        name = f"{meta['name']}-{meta['labels'][REVISION]}"
        pod = mine.find(f"{PODS}/{name}")
        if pod is None:
            predictor = found["spec"]["predictor"]
            spec = {key: value for key, value in predictor.items() if key not in {"minReplicas", "maxReplicas"}}
            labels = {**meta["labels"], "serving.kserve.io/inferenceservice": meta["name"]}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
            mine.call("POST", PODS, body)
        elif pod["spec"]["containers"][0]["image"] == "bad":
            mine.pod_waits(pod, "InvalidImageName", "bad")
        elif pod["status"]["phase"] == "Pending":
            mine.pod_runs(pod)
        elif found.get("status", {}).get("observedGeneration") != meta["generation"]:
            url = f"http://{meta['name']}-predictor.{mine.namespace}.svc.cluster.local"
            status = {
                "observedGeneration": meta["generation"],
                "conditions": [{"type": "Ready", "status": "True"}],
                "address": {"url": url},
            }
            mine.call("PATCH", f"{ISVC}/{meta['name']}/status", {"status": status})


def isvc(cluster: Played) -> Object:
    return cluster.call("GET", f"{ISVC}/digits")


@pytest.mark.usefixtures("with_kserve")
def test_kserve_is_used_where_it_is_installed(cluster: Played, model: Model) -> None:
    step = wanted(cluster, mode="Auto", samples=[[2.0, 1.0]], replicas=2)
    with cluster.played(play_kserve):
        outcome = deploy(step, model)
        before = isvc(cluster)
        assert deploy(step, model) == outcome
    assert outcome == Outcome(f"http://digits-predictor.{cluster.namespace}.svc.cluster.local", "KServe", revision(step))
    assert isvc(cluster)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert before["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    assert kserve.PREVIOUS not in before["metadata"]["annotations"]
    predictor = before["spec"]["predictor"]
    assert predictor["containers"][0]["name"] == "kserve-container"
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 2)
    assert len(model.asked) == 1


@pytest.mark.usefixtures("with_kserve")
@pytest.mark.parametrize("fault", ["image", "answer"])
def test_a_change_that_fails_puts_the_spec_before_back(cluster: Played, model: Model, fault: str) -> None:
    old = wanted(cluster)
    more = {"image": "bad"} if fault == "image" else {"samples": [[2.0, 1.0]], "expected_classes": ["dog"]}
    with cluster.played(play_kserve):
        deploy(old, model)
        spec = isvc(cluster)["spec"]
        with pytest.raises(ComponentError, match="InvalidImageName" if fault == "image" else "expected 'dog'"):
            deploy(wanted(cluster, model_uri="s3://b/m2", **more), model)
        assert isvc(cluster)["spec"] == spec
        assert isvc(cluster)["metadata"]["labels"][REVISION] == revision(old)
        assert kserve.PREVIOUS not in isvc(cluster)["metadata"]["annotations"]
        assert deploy(old, model).revision == revision(old)


@pytest.mark.usefixtures("with_kserve")
def test_a_first_inference_service_that_fails_is_deleted(cluster: Played) -> None:
    with cluster.played(play_kserve), pytest.raises(ComponentError, match="InvalidImageName"):
        deploy(wanted(cluster, image="bad"))
    until(lambda: not cluster.call("GET", ISVC)["items"], lambda: "")


def test_a_change_that_was_killed_is_put_back_to_what_served_before_it(cluster: Played, with_kserve: Kube) -> None:
    old = wanted(cluster)
    with cluster.played(play_kserve):
        deploy(old)
        killed = inference_service(wanted(cluster, model_uri="s3://b/never"))
        kserve._put(with_kserve, killed)  # all that a step does before it is killed in its wait
        with pytest.raises(ComponentError, match="InvalidImageName"):
            deploy(wanted(cluster, image="bad"))
        assert isvc(cluster)["metadata"]["labels"][REVISION] == revision(old)


@pytest.mark.usefixtures("with_kserve")
def test_an_inference_service_of_someone_else_is_left_alone(cluster: Played) -> None:
    body = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "digits"}, "spec": {}}
    cluster.call("POST", ISVC, body)
    with pytest.raises(ComponentError, match="was not made by this component"):
        deploy(wanted(cluster))
    assert isvc(cluster)["spec"] == {}


def test_kserve_where_it_is_not_installed_says_so(cluster: Played, plane: ControlPlane) -> None:
    with pytest.raises(LocalError):
        plane.kubectl("get", "crd", "inferenceservices.serving.kserve.io")
    with pytest.raises(ComponentError, match="the cluster has no InferenceService"):
        deploy(wanted(cluster))
