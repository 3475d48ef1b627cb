"""Batch prediction in real Jobs of a real API server; the test plays their pods and writes what they would write."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.api.cluster import now, until
from tests.components.conftest import example
from tests.components.played import Kubelet, Played, as_process, in_background

from penstock_components import batch, pods, s3
from penstock_components.batch import Batch
from penstock_components.deployment.predict.component import predict as component
from penstock_components.deployment.predict.prediction import count, predict
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object

pytest_plugins = ["tests.components.api_server"]


def wanted(cluster: Played, bucket: str, **more: Any) -> Batch:
    given: dict[str, Any] = {"image": "none", "run_id": "run-1", "namespace": cluster.namespace, "backoff_limit": 0, **more}
    return Batch(model_uri=f"{bucket}/model", input_uri=f"{bucket}/new", output_uri=f"{bucket}/out", **given)


def lines(*rows: tuple[str, int | None, list[float]]) -> bytes:
    return b"".join(json.dumps({"key": key, "label": label, "probabilities": p}).encode() + b"\n" for key, label, p in rows)


ROWS = lines(("a", None, [0.9, 0.1]), ("b", None, [0.2, 0.8]), ("c", None, [0.6, 0.4]))


def jobs(cluster: Played) -> list[Object]:
    found: list[Object] = cluster.call("GET", "/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    return found


def test_a_prediction_runs_in_a_restricted_job_and_is_counted(
    cluster: Played, bucket: str, kubelet: Kubelet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    step = wanted(cluster, bucket, env={"EXTRA": "1"}, placement={"nodeSelector": {"gpu": "yes"}}, service_account="default")
    with in_background(lambda: predict(step, ["cat", "dog"])) as running:
        pod = cluster.one_pod()  # admitted by the restricted profile, or the Job controller could not have made it
        name = pod["metadata"]["name"]
        kubelet.take(pod)
        cluster.pod_runs(pod)
        kubelet.write(name, "3 samples predicted")
        s3.write(f"{bucket}/out/predictions.jsonl", ROWS)
        until(lambda: f"{name} | 3 samples predicted" in caplog.text, lambda: caplog.text)
        kubelet.end(name)
        cluster.pod_ends(pod)
        outcome = running.result(30)
    assert outcome.predictions_uri == f"{bucket}/out/predictions.jsonl"
    assert (outcome.samples, outcome.counts) == (3, {"cat": 2, "dog": 1})
    assert outcome.metrics["mean_confidence"] == pytest.approx(0.7666667)
    assert (outcome.metrics["samples"], outcome.metrics["predicted_cat"]) == (3, 2)
    container = pod["spec"]["containers"][0]
    assert container["command"][:3] == ["python", "-m", "penstock_serving.batch"]
    assert container["command"][3:] == [
        *("--model", f"{bucket}/model"),
        *("--input", f"{bucket}/new"),
        *("--output", f"{bucket}/out/predictions.jsonl"),
    ]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment.keys() == {"AWS_REGION", "EXTRA"}  # the step's endpoint is on its own loopback
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["spec"]["nodeSelector"] == {"gpu": "yes"}
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_pod_gets_the_steps_endpoint_if_it_can_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(url: str, **wanted: str) -> dict[str, str]:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        return {each["name"]: each["value"] for each in pods.environment(wanted) if each["name"] == "AWS_ENDPOINT_URL_S3"}

    assert given("https://s3.internal:9000") == {"AWS_ENDPOINT_URL_S3": "https://s3.internal:9000"}
    assert given("http://127.0.0.1:9000") == given("http://localhost:9000") == given("http://[::1]:9000") == {}
    assert given("http://127.0.0.1:9000", AWS_ENDPOINT_URL_S3="http://minio") == {"AWS_ENDPOINT_URL_S3": "http://minio"}


def test_a_failure_shows_the_pods_end_and_its_last_lines(cluster: Played, bucket: str, kubelet: Kubelet) -> None:
    with in_background(lambda: predict(wanted(cluster, bucket))) as running:
        pod = cluster.one_pod()
        kubelet.take(pod)
        cluster.pod_runs(pod)
        kubelet.write(pod["metadata"]["name"], "penstock-batch: shard-00000.tar: sample 'a' is broken")
        kubelet.end(pod["metadata"]["name"])
        cluster.pod_ends(pod, 137, "OOMKilled")
        with pytest.raises(ComponentError) as caught:
            running.result(30)
    assert "failed: BackoffLimitExceeded" in str(caught.value)
    assert f"pod {pod['metadata']['name']} ended with exit code 137 (OOMKilled)" in str(caught.value)
    assert str(caught.value).endswith("its log ends with:\n  penstock-batch: shard-00000.tar: sample 'a' is broken")


def test_what_would_fail_again_is_not_tried_again(cluster: Played, bucket: str) -> None:
    with in_background(lambda: predict(wanted(cluster, bucket, backoff_limit=3))) as running:
        cluster.pod_ends(cluster.one_pod(), 65)
        with pytest.raises(ComponentError, match=r"failed: PodFailurePolicy: .*exit code 65"):
            running.result(30)
    assert len(cluster.all_pods()) == 1


def test_an_evicted_pod_does_not_count_as_a_failure(cluster: Played, bucket: str) -> None:
    with in_background(lambda: predict(wanted(cluster, bucket))) as running:
        evicted = cluster.one_pod()
        cluster.pod_status(evicted, conditions=[{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": now()}])
        cluster.pod_ends(evicted, 137)
        until(lambda: len(cluster.all_pods()) == 2, cluster.all_pods)
        s3.write(f"{bucket}/out/predictions.jsonl", ROWS)
        cluster.pod_ends(next(pod for pod in cluster.all_pods() if pod["status"]["phase"] == "Pending"))
        assert running.result(30).samples == 3


def test_predictions_whose_job_is_gone_are_taken_as_long_as_they_are_its_own(cluster: Played, bucket: str) -> None:
    step, uri = wanted(cluster, bucket), f"{bucket}/out/predictions.jsonl"

    def made() -> tuple[int, dict[str, int]]:
        """Jobs that were needed, and what was predicted."""
        with in_background(lambda: predict(step)) as running:
            until(lambda: running.done() or cluster.all_pods(), lambda: "neither answer nor pod")
            needed = cluster.all_pods()
            for pod in needed:
                s3.write(uri, ROWS)
                cluster.pod_ends(pod)
            counts = running.result(30).counts
        for job in jobs(cluster):
            Kube(cluster.namespace).delete("batch/v1", "Job", job["metadata"]["name"])
        until(lambda: not jobs(cluster) and not cluster.all_pods(), cluster.all_pods)
        return len(needed), counts

    assert made() == (1, {"0": 2, "1": 1})
    assert made() == (0, {"0": 2, "1": 1})
    s3.write(uri, lines(("x", None, [0.5, 0.5])))  # another job's
    assert made() == (1, {"0": 2, "1": 1})
    step = replace(step, run_id="")  # without a run there is nothing to repeat
    assert [made()[0], made()[0]] == [1, 1]


def test_an_image_that_cannot_be_pulled_is_told_soon_in_the_kubelets_words(cluster: Played, bucket: str) -> None:
    with in_background(lambda: predict(wanted(cluster, bucket, stuck_seconds=1.0))) as running:
        cluster.pod_waits(cluster.one_pod(), "ImagePullBackOff", 'Back-off pulling image "none"')
        with pytest.raises(ComponentError, match='ImagePullBackOff: Back-off pulling image "none"'):
            running.result(30)
    until(lambda: not jobs(cluster), lambda: jobs(cluster))


def test_a_name_that_is_no_image_is_not_waited_for(cluster: Played, bucket: str) -> None:
    with in_background(lambda: predict(wanted(cluster, bucket, stuck_seconds=3600.0))) as running:
        cluster.pod_waits(cluster.one_pod(), "InvalidImageName", "couldn't parse image name")
        with pytest.raises(ComponentError, match="InvalidImageName"):
            running.result(30)


def test_a_deadline_of_the_job_is_told(cluster: Played, bucket: str) -> None:
    with pytest.raises(ComponentError, match="DeadlineExceeded"):
        predict(wanted(cluster, bucket, deadline_minutes=0.02))


STEP = """
from penstock_components.batch import Batch
from penstock_components.deployment.predict.prediction import predict
predict(Batch(model_uri="{b}/model", input_uri="{b}/new", output_uri="{b}/out", image="none", run_id="run-1", namespace="{n}",
    backoff_limit=0))
"""


def test_a_killed_step_is_taken_up_by_its_retry(cluster: Played, bucket: str) -> None:
    with as_process(STEP.format(b=bucket, n=cluster.namespace), {}) as process:
        pod = cluster.one_pod()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with in_background(lambda: predict(wanted(cluster, bucket))) as running:
        s3.write(f"{bucket}/out/predictions.jsonl", ROWS)
        cluster.pod_ends(pod)
        assert running.result(30).samples == 3
    assert len(jobs(cluster)) == len(cluster.all_pods()) == 1


def test_a_cancelled_step_deletes_its_job(cluster: Played, bucket: str) -> None:
    with as_process(STEP.format(b=bucket, n=cluster.namespace), {}) as process:
        cluster.one_pod()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    until(lambda: not jobs(cluster) and not cluster.all_pods(), lambda: jobs(cluster))


def test_a_step_that_is_run_again_after_a_failure_makes_the_job_anew(cluster: Played, bucket: str) -> None:
    with in_background(lambda: predict(wanted(cluster, bucket))) as running:
        cluster.pod_ends(cluster.one_pod(), 1)
        with pytest.raises(ComponentError, match="exit code 1"):
            running.result(30)
    (before,) = jobs(cluster)
    with in_background(lambda: predict(wanted(cluster, bucket))) as running:
        until(lambda: [each["metadata"]["uid"] for each in jobs(cluster)] not in ([], [before["metadata"]["uid"]]), lambda: "")
        s3.write(f"{bucket}/out/predictions.jsonl", ROWS)
        until(lambda: any(pod["status"]["phase"] == "Pending" for pod in cluster.all_pods()), cluster.all_pods)
        cluster.pod_ends(next(pod for pod in cluster.all_pods() if pod["status"]["phase"] == "Pending"))
        running.result(30)
    (after,) = jobs(cluster)
    assert after["metadata"]["name"] == before["metadata"]["name"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no predictions"),
        (b"{}\n", r"line 1: no 'key'; expected key, label and probabilities"),
        (b"nonsense\n", "line 1: not JSON"),
        (lines(("a", None, [0.5, 0.5]), ("a", None, [0.5, 0.5])), "line 2: key 'a' stands twice"),
        (lines(("a", None, [0.5, 0.5]), ("b", None, [0.2, 0.3, 0.5])), "line 2: 'b' has 3 probabilities, expected one"),
        (b'{"key": "a", "label": null, "probabilities": [NaN, 0.5]}\n', "line 1: 'a' has a probability outside 0 to 1: nan"),
        (lines(("a", None, [3.5, -1.5])), "outside 0 to 1: 3.5"),
        (lines(("a", None, [0.9, 0.9])), "sum to 1.8, expected 1"),
        (lines(("a", 2, [0.5, 0.5])), "label 2, expected a class index from 0 to 1"),
        (b'{"key": "a", "label": true, "probabilities": [1.0]}\n', "label True"),
    ],
)
def test_predictions_that_cannot_be_used_name_their_line(bucket: str, data: bytes, message: str) -> None:
    s3.write(f"{bucket}/p.jsonl", data)
    with pytest.raises(ComponentError, match=message):
        batch.read(f"{bucket}/p.jsonl")


def test_counts_need_as_many_names_as_the_model_has_classes(bucket: str) -> None:
    s3.write(f"{bucket}/p.jsonl", ROWS)
    found = batch.read(f"{bucket}/p.jsonl")
    assert count(found) == {"0": 2, "1": 1}
    with pytest.raises(ComponentError, match="1 different names, the model has 2 classes"):
        count(found, ["cat", "cat"])


def test_trouble_that_passes_is_forgotten() -> None:
    time = [0.0]
    patience = pods.Patience(10.0, clock=lambda: time[0])
    waits: Object = {"state": {"waiting": {"reason": "ErrImagePull", "message": "m"}}}
    bad: Object = {"metadata": {"name": "p"}, "status": {"containerStatuses": [waits]}}
    for clock, pod in ((0.0, bad), (9.0, bad), (10.0, {"metadata": {"name": "p"}}), (11.0, bad), (20.0, bad)):
        time[0] = clock
        patience.check([pod])
    time[0] = 21.0
    with pytest.raises(pods.Stuck, match="ErrImagePull: m"):
        patience.check([bad])


def test_the_readme_example_predicts(cluster: Played, bucket: str, kfp_local: Path) -> None:
    def kubelet(mine: Played) -> None:
        for pod in mine.all_pods():
            if pod["status"]["phase"] == "Pending":
                s3.write(pod["spec"]["containers"][0]["command"][-1], ROWS)
                mine.pod_ends(pod)

    with cluster.played(kubelet):
        example("deployment/predict")(bucket=bucket, namespace=cluster.namespace)
    output = json.loads(next(kfp_local.rglob("executor_output.json")).read_text())
    assert output["parameterValues"]["counts"] == {"cat": 2, "dog": 1}
    assert output["artifacts"]["metrics"]["artifacts"][0]["metadata"]["samples"] == 3
    assert len(Kube(cluster.namespace).select("batch/v1", "Job")) == 1


def test_every_input_of_the_component_is_one_of_the_library() -> None:
    found = set(component.python_func.__annotations__) - {"metrics", "classes", "return"}
    assert found == set(Batch.__dataclass_fields__)
