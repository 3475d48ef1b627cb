"""Pods that will not start: what is said, and when a job ends of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from simulation import Simulation

from penstock_operator import names


def without_its_volumes(job: Simulation) -> None:
    job.settle()
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    unprepared = {"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    job.waiting("digits-worker-1", "ContainerCreating")
    job.pods["digits-worker-1"]["status"]["conditions"] = [placed, unprepared]


def test_a_volume_that_does_not_mount_is_named_by_its_field() -> None:
    job = Simulation(volumes=[{"name": "keys", "mountPath": "/keys", "secret": {"secretName": "of-the-team"}}])
    job.warning = 'MountVolume.SetUp failed for volume "keys" : secret "of-the-team" not found'
    without_its_volumes(job)
    job.later(21)
    job.settle()
    assert job.said(names.STALLED).endswith(f"{job.warning}; see spec.volumes[keys].secret")


def test_a_pod_without_its_volumes_is_told_but_not_failed() -> None:
    job = Simulation()
    without_its_volumes(job)
    assert job.plan().again == timedelta(seconds=20)
    job.later(21)
    job.settle()
    assert job.why(names.STALLED) == "PodNotPrepared"
    assert "digits-worker-1" in job.said(names.STALLED)
    assert job.plan().again == timedelta(seconds=30)  # a mount that hangs is told late
    job.later(3600)
    job.settle()
    assert not job.true(names.FAILED)
    job.ready()
    job.settle()
    assert not job.true(names.STALLED)


def test_an_image_that_cannot_be_pulled_stalls_at_once_and_fails_after_the_grace() -> None:
    job = Simulation()
    job.settle()
    job.waiting("digits-worker-0", "ErrImagePull", "not found")
    job.settle()
    assert job.why(names.STALLED) == "ImagePullFailed"
    assert "digits-worker-0" in job.said(names.STALLED)
    assert "'trainer'" in job.said(names.STALLED)
    said = job.said(names.STALLED)
    job.later(10)
    job.waiting("digits-worker-0", "ImagePullBackOff", "Back-off pulling image")
    job.settle()
    assert job.said(names.STALLED) == said  # no write for every change of the kubelet's mind
    job.later(11)
    job.settle()
    assert job.why(names.FAILED) == "ImagePullFailed"
    assert job.pods == {}


def test_an_image_that_was_good_once_is_waited_for() -> None:
    job = Simulation().started()
    job.deleting("digits-worker-0")
    job.settle()
    job.gone("digits-worker-0")
    job.waiting("digits-worker-0-a2", "ImagePullBackOff")
    job.settle()
    job.later(3600)
    job.settle()
    assert job.true(names.STALLED)
    assert not job.true(names.FAILED)


def test_a_missing_config_map_is_named_with_its_field_and_then_the_next() -> None:
    job = Simulation(envFrom=[{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}])
    job.settle()
    for words, field in (
        ('configmap "settings" not found', "spec.envFrom[0].configMapRef"),
        ('secret "keys" not found', "spec.envFrom[1].secretRef"),
        ("something else", "kubectl describe pod digits-worker-1"),
    ):
        job.waiting("digits-worker-1", "CreateContainerConfigError", words)
        job.settle()
        assert job.why(names.STALLED) == "ContainerConfigFailed"
        assert job.said(names.STALLED).endswith(f"{words}; see {field}")


def test_a_worker_that_never_answers_stalls_and_then_fails_the_job() -> None:
    job = Simulation()
    job.settle()
    job.ready("digits-worker-0")
    job.running("digits-worker-1")
    job.settle()
    job.later(21)
    job.settle()
    assert job.why(names.STALLED) == "WorkerNotReady"
    job.later(40)
    job.settle()
    assert job.why(names.FAILED) == "WorkerNotReady"
    assert job.pods == {}


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (("ErrImagePull", "ImagePullBackOff"), "its container 'wrker' cannot pull its image"),
        (("CreateContainerConfigError",), "its container 'wrker' does not start (CreateContainerConfigError)"),
    ],
)
def test_a_container_beside_the_worker_that_does_not_start_is_named(reasons: tuple[str, ...], said: str) -> None:
    job = Simulation()
    job.settle()
    job.ready("digits-worker-0")
    job.running("digits-worker-1")
    job.later(21)
    messages = set()
    for reason in reasons:
        [main] = job.pods["digits-worker-1"]["status"]["containerStatuses"][:1]
        beside = {"name": "wrker", "state": {"waiting": {"reason": reason}}}
        job.pods["digits-worker-1"]["status"]["containerStatuses"] = [main, beside]
        job.settle()
        assert job.why(names.STALLED) == "WorkerNotReady"
        messages.add(job.said(names.STALLED))
    [message] = messages
    assert f"{said}; the worker's own is called 'worker' in workers.template" in message


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (1, "exec /etc/penstock/ring/worker: no such file or directory", "the image needs sshd, bash"),
        (127, "penstock: the image has no sshd (package openssh-server); a worker needs it", "no sshd"),
    ],
)
def test_an_image_without_a_shell_or_sshd_fails_the_job_at_once(code: int, words: str, said: str) -> None:
    job = Simulation()
    job.settle()
    job.ended("digits-worker-0", code, words)
    job.settle()
    assert job.why(names.FAILED) == "ContainerStartFailed"
    assert said in job.said(names.FAILED)
