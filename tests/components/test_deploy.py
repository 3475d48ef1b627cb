"""Deployments against a real API server and the controllers of Deployments and endpoints; the test plays their nodes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.cluster import now, until
from tests.components.conftest import example
from tests.components.model_server import Model
from tests.components.played import Kubelet, Played, as_process, in_background

from penstock_components.deployment.deploy.component import deploy as component
from penstock_components.deployment.deploy.request import PORT, REVISION, Serving, check, revision
from penstock_components.deployment.deploy.rollout import Outcome, deploy
from penstock_components.errors import ComponentError
from penstock_components.kube import Object

pytest_plugins = ["tests.components.api_server"]


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def wanted(cluster: Played, **more: Any) -> Serving:
    given: dict[str, Any] = {"image": "none", "model_uri": "s3://b/m", "mode": "Standard", "ready_minutes": 0.5, **more}
    return Serving(name="digits", namespace=cluster.namespace, **given)


def service(cluster: Played) -> Object | None:
    return cluster.find("/api/v1/namespaces/{namespace}/services/digits")


def served(cluster: Played) -> str:
    found = service(cluster)
    return "" if found is None else str(found["spec"]["selector"][REVISION])


def deployments(cluster: Played) -> dict[str, str]:
    """Names and resource versions."""
    found = cluster.call("GET", "/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in found}


def test_a_first_model_gets_pods_a_budget_and_a_service(cluster: Played, kubelet: Kubelet, model: Model) -> None:
    step = wanted(cluster, replicas=2, samples=[[2.0, 1.0]], expected_classes=["cat"], model_name="d", env={"X": "1"})
    with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
        outcome = deploy(step, model)
    assert outcome == Outcome(f"http://digits.{cluster.namespace}.svc.cluster.local", "Standard", revision(step))
    assert served(cluster) == revision(step)
    first, second = cluster.all_pods()  # admitted by the restricted profile
    container = first["spec"]["containers"][0]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment.items() >= {"MODEL_URI": "s3://b/m", "MODEL_NAME": "d", "X": "1"}.items()
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert container["ports"][0]["containerPort"] == PORT
    assert second["spec"]["automountServiceAccountToken"] is False
    (budget,) = cluster.call("GET", "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")["items"]
    assert budget["metadata"]["ownerReferences"][0]["name"] == f"digits-{revision(step)}"
    assert model.asked[0][0] == "/v2/models/d/infer"


def test_the_same_inputs_again_change_nothing(cluster: Played, kubelet: Kubelet, model: Model) -> None:
    with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
        first = deploy(wanted(cluster, samples=[[2.0, 1.0]]), model)
        before = [each["metadata"]["resourceVersion"] for each in (service(cluster), *cluster.all_pods()) if each]
        asked = len(model.asked)
        assert deploy(wanted(cluster, samples=[[2.0, 1.0]]), model) == first
    assert [each["metadata"]["resourceVersion"] for each in (service(cluster), *cluster.all_pods()) if each] == before
    assert len(model.asked) == asked
    assert cluster.call("GET", "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")["items"] == []


def test_a_new_model_serves_only_when_it_is_ready_and_the_old_goes_only_then(cluster: Played, kubelet: Kubelet) -> None:
    old, new = wanted(cluster), wanted(cluster, model_uri="s3://b/m2")
    with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
        deploy(old)
    with in_background(lambda: deploy(new)) as running:
        until(lambda: len(cluster.all_pods()) == 2, cluster.all_pods)
        assert served(cluster) == revision(old)
        with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
            running.result(60)
    assert served(cluster) == revision(new)
    assert deployments(cluster).keys() == {f"digits-{revision(new)}"}


@pytest.mark.parametrize("first", [True, False])
def test_a_model_that_answers_wrongly_never_serves(cluster: Played, kubelet: Kubelet, model: Model, first: bool) -> None:
    old, bad = wanted(cluster), wanted(cluster, model_uri="s3://b/bad", samples=[[2.0, 1.0]], expected_classes=["dog"])
    with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
        if not first:
            deploy(old)
        before = deployments(cluster)
        with pytest.raises(ComponentError, match="sample 0 is 'cat', expected 'dog'"):
            deploy(bad, model)
        until(lambda: deployments(cluster) == before, lambda: deployments(cluster))
    assert served(cluster) == ("" if first else revision(old))


def test_an_image_that_cannot_be_pulled_leaves_what_served(cluster: Played, kubelet: Kubelet) -> None:
    with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
        deploy(wanted(cluster))
    before = deployments(cluster)
    with in_background(lambda: deploy(wanted(cluster, image="nowhere/none:1", stuck_seconds=1.0))) as running:
        until(lambda: len(cluster.all_pods()) == 2, cluster.all_pods)
        (pod,) = [each for each in cluster.all_pods() if each["status"]["phase"] == "Pending"]
        cluster.pod_waits(pod, "ErrImagePull", "not found")
        with pytest.raises(ComponentError, match=r"does not start: pod .* ErrImagePull: not found"):
            running.result(60)
    until(lambda: deployments(cluster) == before, lambda: deployments(cluster))
    assert served(cluster) == revision(wanted(cluster))


def test_a_server_that_crashes_shows_its_last_lines(cluster: Played, kubelet: Kubelet) -> None:
    with in_background(lambda: deploy(wanted(cluster))) as running:
        pod = cluster.one_pod()
        kubelet.take(pod)
        kubelet.write(pod["metadata"]["name"], "ModelError: model.pt2: sha256 differs")
        cluster.pod_waits(pod, "CrashLoopBackOff", "back-off 40s", restarts=3)
        with pytest.raises(ComponentError) as caught:
            running.result(60)
    assert "CrashLoopBackOff: back-off 40s (it ended with exit code 1)" in str(caught.value)
    assert str(caught.value).endswith("its log ends with:\n  ModelError: model.pt2: sha256 differs")
    assert kubelet.asked[-1].get("previous") == "true"


def test_pods_without_a_node_are_told_when_time_is_up(cluster: Played) -> None:
    with in_background(lambda: deploy(wanted(cluster, ready_minutes=0.05))) as running:
        pod = cluster.one_pod()
        words = {"reason": "Unschedulable", "message": "0/3 nodes: Insufficient cpu", "lastTransitionTime": now()}
        cluster.pod_status(pod, conditions=[{"type": "PodScheduled", "status": "False", **words}])
        with pytest.raises(ComponentError, match=r"Unschedulable: 0/3 nodes: Insufficient cpu|ProgressDeadlineExceeded"):
            running.result(60)
    until(lambda: not deployments(cluster), lambda: deployments(cluster))


def test_a_service_of_someone_else_is_left_alone(cluster: Played) -> None:
    spec = {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "digits"}, "spec": spec}
    cluster.call("POST", "/api/v1/namespaces/{namespace}/services", body)
    with pytest.raises(ComponentError, match="was not made by this component"):
        deploy(wanted(cluster))
    found = service(cluster)
    assert found is not None
    assert found["spec"]["selector"] == {"app": "theirs"}
    assert deployments(cluster) == {}


STEP = """
from penstock_components.deployment.deploy.request import Serving
from penstock_components.deployment.deploy.rollout import deploy
deploy(Serving(name="digits", namespace="{}", image="none", model_uri="s3://b/m", mode="Standard", ready_minutes=0.5))
"""


def test_a_killed_step_is_finished_by_its_retry(cluster: Played, kubelet: Kubelet) -> None:
    with as_process(STEP.format(cluster.namespace), {}) as process:
        cluster.one_pod()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    before = deployments(cluster)
    with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
        deploy(wanted(cluster))
    assert deployments(cluster) == before
    assert served(cluster) == revision(wanted(cluster))


def test_a_cancelled_step_takes_its_new_pods_with_it(cluster: Played) -> None:
    with as_process(STEP.format(cluster.namespace), {}) as process:
        cluster.one_pod()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    until(lambda: not deployments(cluster) and not cluster.all_pods(), lambda: deployments(cluster))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"name": "Digits"}, "name is 'Digits'"),
        ({"name": "x" * 31}, "1 to 30"),
        ({"name": "d", "model_name": "a/b"}, "it stands in URLs"),
        ({"name": "d", "mode": "Knative"}, "allowed are Auto, KServe and Standard"),
        ({"name": "d", "replicas": 0}, "replicas is 0"),
        ({"name": "d", "samples": [[1]], "expected_classes": ["a", "b"]}, "2 entries for 1 samples"),
        ({"name": "d", "image": ""}, "image is empty"),
    ],
)
def test_wrong_inputs_deploy_nothing(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        check(Serving(**{"model_uri": "s3://b/m", "image": "i", **more}))


def test_the_readme_example_deploys(cluster: Played, kubelet: Kubelet, kfp_local: Path) -> None:
    with cluster.played(lambda mine: mine.run_servers(kubelet.name)):
        example("deployment/deploy")(bucket="s3://b", namespace=cluster.namespace)
    output = json.loads(next(kfp_local.rglob("executor_output.json")).read_text())["parameterValues"]
    assert output["endpoint_url"] == f"http://digits.{cluster.namespace}.svc.cluster.local"
    assert output["revision"] == served(cluster)
    assert len(cluster.all_pods()) == 2


def test_every_input_of_the_component_is_one_of_the_library() -> None:
    assert set(component.python_func.__annotations__) - {"return"} == set(Serving.__dataclass_fields__)
