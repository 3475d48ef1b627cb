"""Training steps against a real API server; the test writes the TrainingJob's status as the operator does."""

from __future__ import annotations

import json
import logging
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.api.cluster import JOBS, until
from tests.components.conftest import example
from tests.components.played import Kubelet, Played, as_process, complete, in_background
from tests.components.training_jobs import export, failed, report, the_job, true, wanted

from penstock_components import s3
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube
from penstock_components.training.train import job as training
from penstock_components.training.train.component import train as component
from penstock_components.training.train.request import Training, build, check

pytest_plugins = ["tests.components.api_server"]


def test_a_training_is_followed_to_its_model(
    cluster: Played, kubelet: Kubelet, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with in_background(lambda: training.train(wanted(cluster, bucket, log_lines=100))) as step:
        name = the_job(cluster)
        running = {"phase": "Running", "reason": "LauncherRunning", "attempt": 1, "workers": {"desired": 2, "ready": 2}}
        first = kubelet.run(f"{name}-launcher")
        kubelet.write(f"{name}-launcher", "epoch 1")
        cluster.training_status(name, **running, launcher={"pod": f"{name}-launcher"}, progress=report(10, 2.5))
        until(lambda: f"{name}-launcher | epoch 1" in caplog.text, lambda: caplog.text)
        # The program fails once and is started again: another launcher, and steps that begin anew.
        kubelet.end(f"{name}-launcher")
        cluster.pod_ends(first, 1)
        cluster.training_status(name, phase="Restarting", reason="ProgramFailed", restarts={"code": 1, "infrastructure": 0})
        second = f"{name}-launcher-a2"
        kubelet.run(second)
        kubelet.write(second, "epoch 1 again")
        cluster.training_status(name, **{**running, "attempt": 2}, launcher={"pod": second}, progress=report(60, 0.5))
        until(lambda: f"{second} | epoch 1 again" in caplog.text, lambda: caplog.text)
        kubelet.end(second)
        cluster.pod_ends(cluster.call("GET", f"/api/v1/namespaces/{{namespace}}/pods/{second}"))
        cluster.training_status(name, **complete(), progress=report(100, 0.25))
        until(lambda: "model.json is not there yet" in caplog.text, lambda: caplog.text)
        export(f"{bucket}/model", accuracy=0.98)
        outcome = step.result(30)
    line = "Running (LauncherRunning): 2/2 workers, step 10/100 (10%), loss 2.5, 950 samples/s, ETA 3m10s"
    assert f"TrainingJob {name}: {line}" in caplog.text
    assert "Restarting (ProgramFailed): 2/2 workers, 1 restarts (code)" in caplog.text
    assert outcome.metrics == {
        "loss": 0.25,
        "accuracy": 0.98,
        "samples_per_second": 950.0,
        "duration_seconds": 90.0,
        "restarts": 1.0,
    }
    assert outcome.model == {"job_name": name, "bytes": 1000, "sha256": "0" * 64}
    assert outcome.html.count("data:image/svg+xml") == 1


def test_the_operator_sees_the_spec_the_step_was_given(cluster: Played, bucket: str) -> None:
    step = wanted(cluster, bucket, env={"B": "2", "A": "1"}, slots=4, backend="MPI", run_policy={"maxRestarts": 1.0})
    with in_background(lambda: training.train(step)) as running:
        name = the_job(cluster)
        spec = cluster.job(name)["spec"]
        export(f"{bucket}/model")
        cluster.training_status(name, **complete())
        running.result(30)
    assert spec["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert (spec["workers"]["replicas"], spec["workers"]["slots"], spec["backend"]) == (2, 4, "MPI")
    assert spec["runPolicy"]["maxRestarts"] == 1
    assert spec["runPolicy"]["ttlSecondsAfterFinished"] == 604800


def test_volumes_and_instance_types_reach_the_spec_as_given() -> None:
    volumes = [{"name": "data", "mountPath": "/data", "lustreVolume": "imagenet"}]
    job = build(Training(model_uri="s3://b/m", image="i", command=["c"], volumes=volumes, instance_type="p4d.24xlarge"))
    assert job["spec"]["volumes"] == volumes
    assert job["spec"]["workers"] == {"replicas": 1, "instanceType": "p4d.24xlarge"}


def test_a_whole_spec_goes_as_it_is_with_whole_numbers() -> None:
    job = build(Training(model_uri="s3://b/m", spec={"image": "i", "command": ["c"], "workers": {"replicas": 2.0}}))
    assert job["spec"] == {"image": "i", "command": ["c"], "workers": {"replicas": 2}}
    assert isinstance(job["spec"]["workers"]["replicas"], int)


def test_the_name_is_of_the_run_and_the_spec() -> None:
    def name(**more: Any) -> str:
        given: dict[str, Any] = {"model_uri": "s3://b/m", "image": "i", "command": ["c"], "run_id": "a", **more}
        return str(build(Training(**given))["metadata"]["name"])

    assert name() == name() == name(deadline_hours=1.0)
    assert len({name(), name(run_id="b"), name(workers=2)}) == 3
    assert len(name()) <= 46


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "image is empty"),
        ({"spec": {"image": "i"}, "workers": 2, "env": {"A": "1"}}, "instead of beside it: env, workers"),
        ({"image": "i", "command": ["c"], "on_cancel": "Keep"}, "allowed are Delete and Suspend"),
        ({"image": "i", "command": ["c"], "deadline_hours": 0.0}, "deadline_hours is 0"),
    ],
)
def test_wrong_inputs_start_nothing(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        check(Training(model_uri="s3://b/m", **inputs))


def test_a_field_the_operator_does_not_know_is_refused_by_name(cluster: Played, bucket: str) -> None:
    spec = {"image": "i", "command": ["c"], "wrokers": {"replicas": 2}}
    with pytest.raises(ComponentError, match="wrokers"):
        training.train(Training(model_uri=f"{bucket}/model", spec=spec, namespace=cluster.namespace))
    assert cluster.jobs() == []


def test_a_failure_names_rank_pod_exit_code_and_the_last_lines(cluster: Played, bucket: str) -> None:
    with in_background(lambda: training.train(wanted(cluster, bucket))) as step:
        lines = ["Traceback", "ValueError: no data"]
        status = failed(rank=3, pod="x-worker-1", node="ip-10", exitCode=137, reason="OOMKilled", attempt=2, logTail=lines)
        cluster.training_status(the_job(cluster), **status)
        with pytest.raises(ComponentError) as caught:
            step.result(30)
    text = str(caught.value)
    assert "failed: ProgramFailed: exit code 3" in text
    assert "first failure: rank 3, pod x-worker-1, node ip-10, exit code 137 (OOMKilled), attempt 2" in text
    assert text.endswith("last lines of the launcher:\n  Traceback\n  ValueError: no data")


def test_a_step_that_is_run_again_after_a_failure_trains_anew(cluster: Played, bucket: str) -> None:
    with in_background(lambda: training.train(wanted(cluster, bucket))) as step:
        name = the_job(cluster)
        before = cluster.job(name)
        cluster.training_status(name, **failed())
        with pytest.raises(ComponentError, match="ProgramFailed"):
            step.result(30)
    with in_background(lambda: training.train(wanted(cluster, bucket))) as step:
        until(lambda: (cluster.find(f"{JOBS}/{name}") or before)["metadata"]["uid"] != before["metadata"]["uid"], cluster.jobs)
        export(f"{bucket}/model")
        cluster.training_status(name, **complete())
        assert step.result(30).job_name == name


def test_a_name_that_belongs_to_another_spec_is_refused_and_the_job_left_alone(cluster: Played, bucket: str) -> None:
    cluster.create_job("mine")
    with pytest.raises(ComponentError, match="mine exists and was made from something else"):
        training.train(wanted(cluster, bucket, job_name="mine"))
    assert "deletionTimestamp" not in cluster.job("mine")["metadata"]


def test_a_job_deleted_by_someone_ends_the_step(cluster: Played, bucket: str) -> None:
    with in_background(lambda: training.train(wanted(cluster, bucket))) as step:
        Kube(cluster.namespace).delete("penstock.dev/v1alpha1", "TrainingJob", the_job(cluster))
        with pytest.raises(ComponentError, match="was deleted while this step waited"):
            step.result(30)


@pytest.mark.parametrize(
    ("minutes", "reason", "message", "told"),
    [
        pytest.param(0.03, "QuotaExceeded", "no GPUs", r"stood still .* QuotaExceeded: no GPUs.*Delete", id="in time"),
        pytest.param(
            60.0,
            "UnknownInstanceType",
            "found 'p4d.24xlrge'",
            r"cannot run as it is: UnknownInstanceType: found 'p4d.24xlrge'.*Delete",
            id="at once, where only another spec would mend it",
        ),
    ],
)
def test_a_job_that_stands_still_is_given_up_and_deleted(
    minutes: float, reason: str, message: str, told: str, cluster: Played, bucket: str
) -> None:
    with in_background(lambda: training.train(wanted(cluster, bucket, stalled_minutes=minutes))) as step:
        conditions = [true("Stalled", reason, message)]
        cluster.training_status(the_job(cluster), phase="Pending", reason=reason, conditions=conditions)
        with pytest.raises(ComponentError, match=told):
            step.result(30)
    until(lambda: not cluster.jobs(), cluster.jobs)


def test_a_job_that_takes_too_long_is_suspended_where_that_is_asked(cluster: Played, bucket: str) -> None:
    with pytest.raises(ComponentError, match=r"did not end within .* Pending"):
        training.train(wanted(cluster, bucket, deadline_hours=0.0005, on_cancel="Suspend"))
    assert cluster.job(the_job(cluster))["spec"]["runPolicy"]["suspend"] is True


def test_a_job_that_took_too_long_is_not_begun_anew_by_the_next_try(cluster: Played, bucket: str) -> None:
    with pytest.raises(ComponentError, match="a retry does not begin anew"):
        training.train(wanted(cluster, bucket, deadline_hours=0.0005))
    before = cluster.job(the_job(cluster))
    assert before["spec"]["runPolicy"]["suspend"] is True
    with pytest.raises(ComponentError, match=r"was given up: .* did not end within 0.0005 h: Pending .*; delete it"):
        training.train(wanted(cluster, bucket, deadline_hours=0.0005))
    after = cluster.job(the_job(cluster))
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_the_deadline_counts_from_the_jobs_creation(cluster: Played, bucket: str) -> None:
    with as_process(STEP.format(uri=f"{bucket}/model", namespace=cluster.namespace, more=""), {}) as process:
        name = the_job(cluster)
        process.kill()
    created = datetime.fromisoformat(cluster.job(name)["metadata"]["creationTimestamp"])
    until(lambda: datetime.now(UTC) - created > timedelta(seconds=4), lambda: "")
    begun = time.monotonic()
    with pytest.raises(ComponentError, match="did not end within"):
        training.train(wanted(cluster, bucket, deadline_hours=4 / 3600))
    assert time.monotonic() - begun < 3


def test_a_model_whose_job_is_gone_is_trained_again_only_where_it_may_not_be_reused(cluster: Played, bucket: str) -> None:
    export(f"{bucket}/model", accuracy=0.98)
    outcome = training.train(wanted(cluster, bucket, reuse_model=True))
    assert (outcome.model["bytes"], outcome.metrics) == (1000, {"accuracy": 0.98})
    assert cluster.jobs() == []
    with in_background(lambda: training.train(wanted(cluster, bucket))) as step:
        name = the_job(cluster)
        assert name == outcome.job_name
        cluster.training_status(name, **failed())
        with pytest.raises(ComponentError, match="ProgramFailed"):
            step.result(30)
    s3.write(f"{bucket}/model/model.pt2", b"half")
    with in_background(lambda: training.train(wanted(cluster, bucket, run_id="run-2", reuse_model=True))) as step:
        until(lambda: len(cluster.jobs()) == 2, cluster.jobs)
        (other,) = set(cluster.jobs()) - {name}
        cluster.training_status(other, **failed())
        with pytest.raises(ComponentError, match="ProgramFailed"):
            step.result(30)


STEP = """
from penstock_components.training.train.job import train
from penstock_components.training.train.request import Training
train(Training(model_uri={uri!r}, image="none", command=["train"], workers=2, run_id="run-1", namespace={namespace!r}{more}))
"""


def test_a_killed_step_is_taken_up_by_its_retry(cluster: Played, bucket: str) -> None:
    code = STEP.format(uri=f"{bucket}/model", namespace=cluster.namespace, more="")
    with as_process(code, {}) as process:
        name = the_job(cluster)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    before = cluster.job(name)["metadata"]
    with in_background(lambda: training.train(wanted(cluster, bucket))) as step:
        export(f"{bucket}/model")
        cluster.training_status(name, **complete())
        assert step.result(30).job_name == name
    assert cluster.jobs() == [name]
    assert cluster.job(name)["metadata"]["uid"] == before["uid"]
    assert cluster.job(name)["metadata"]["generation"] == before["generation"]


def test_a_cancelled_step_deletes_its_job(cluster: Played, bucket: str) -> None:
    with as_process(STEP.format(uri=f"{bucket}/model", namespace=cluster.namespace, more=""), {}) as process:
        the_job(cluster)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    until(lambda: not cluster.jobs(), cluster.jobs)


@pytest.mark.parametrize("evicted", [True, False])
def test_a_step_whose_node_is_drained_leaves_its_job_to_its_next_try(
    evicted: bool, cluster: Played, kubelet: Kubelet, bucket: str, tmp_path: Path
) -> None:
    own = kubelet.run("step")
    if evicted:
        cluster.pod_status(own, conditions=[true("DisruptionTarget", "EvictionByEvictionAPI", "")])
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = cluster.namespace  # in a pod it is the pod's own
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    inside = {"KFP_POD_NAME": "step", "KUBECONFIG": str(tmp_path / "kubeconfig")}
    with as_process(STEP.format(uri=f"{bucket}/model", namespace=cluster.namespace, more=""), inside) as process:
        name = the_job(cluster)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert cluster.jobs() == ([name] if evicted else [])


def test_a_cancelled_step_can_suspend_its_job_and_the_next_try_resumes_it(cluster: Played, bucket: str) -> None:
    code = STEP.format(uri=f"{bucket}/model", namespace=cluster.namespace, more=", on_cancel='Suspend'")
    with as_process(code, {}) as process:
        name = the_job(cluster)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert cluster.job(name)["spec"]["runPolicy"]["suspend"] is True
    with in_background(lambda: training.train(wanted(cluster, bucket, on_cancel="Suspend"))) as step:
        until(lambda: not cluster.job(name)["spec"]["runPolicy"]["suspend"], lambda: cluster.job(name))
        export(f"{bucket}/model")
        cluster.training_status(name, **complete())
        step.result(30)


def test_a_complete_job_survives_the_cancelling_of_a_step_that_waits_for_its_model(cluster: Played, bucket: str) -> None:
    code = STEP.format(uri=f"{bucket}/model", namespace=cluster.namespace, more="")
    with as_process(code, {}) as process:
        name = the_job(cluster)
        cluster.training_status(name, **complete())
        assert process.stdout is not None
        for line in process.stdout:
            if "model.json is not there yet" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert cluster.jobs() == [name]


def test_the_readme_example_trains(cluster: Played, bucket: str, kfp_local: Path) -> None:
    def operator(mine: Played) -> None:
        for name in mine.jobs():
            job = mine.job(name)
            if job.get("status", {}).get("phase") != "Complete":
                export(f"{bucket}/models/{job['metadata']['annotations']['penstock.dev/run-id']}", accuracy=0.97)
                mine.training_status(name, **complete(), progress=report(100, 0.125))

    with cluster.played(operator):
        example("training/train")(bucket=bucket, namespace=cluster.namespace)
    output = json.loads(next(kfp_local.rglob("executor_output.json")).read_text())
    (model,) = output["artifacts"]["model"]["artifacts"]
    (metrics,) = output["artifacts"]["metrics"]["artifacts"]
    # KFP's launcher uploads the artifact's file to its own place, and refuses a URI outside the pipeline root.
    assert Path(model["uri"]).is_relative_to(kfp_local)
    about = json.loads(Path(model["uri"]).read_text())
    assert about == {"model_uri": output["parameterValues"]["model_uri"], "bytes": 1000, "sha256": "0" * 64}
    assert model["metadata"]["model_uri"] == about["model_uri"]
    assert model["metadata"]["accuracy"] == 0.97
    assert metrics["metadata"]["loss"] == 0.125
    assert "data:image/svg+xml" in next(kfp_local.rglob("loss_plot")).read_text()


def test_every_input_of_the_component_is_one_of_the_library() -> None:
    outputs = {"model", "metrics", "loss_plot"}
    assert set(component.python_func.__annotations__) - outputs - {"return"} == set(Training.__dataclass_fields__)
