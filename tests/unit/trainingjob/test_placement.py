"""A pod without a place says what it lacks, and in which field that was asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from simulation import Simulation

from penstock_operator import names
from penstock_operator.trainingjob.events import events

NO_VICTIMS = (
    ". no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
)


def unplaced(job: Simulation, pod: str, message: str) -> None:
    """The scheduler finds no node for this pod."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    job.pods[pod]["status"] = {"phase": "Pending", "conditions": [condition]}


@pytest.mark.parametrize(
    ("causes", "column", "advice"),
    [
        ("2 Insufficient nvidia.com/gpu", "Insufficient nvidia.com/gpu", "it asks for 16 (spec.workers.resources)"),
        ("1 Insufficient cpu, 1 Too many pods", "Insufficient cpu", "it asks for some (spec.workers.template.spec)"),
        ("2 Too many pods", "Too many pods", "add nodes"),
        ("2 node(s) had untolerated taint(s)", "untolerated taint", "spec.workers.template.spec.tolerations"),
        ("2 node(s) had untolerated taint {gpu: true}", "untolerated taint", "spec.workers.template.spec.tolerations"),
        ("2 node(s) didn't match Pod's node affinity/selector", "no such node", "spec.workers.capacityType 'spot'"),
        ("2 node(s) were unschedulable", "nodes cordoned", "kubectl uncordon"),
        ("1 node(s) had volume node affinity conflict", "claim in another zone", "spec.volumes"),
        ("pod has unbound immediate PersistentVolumeClaims", "claim not bound", "kubectl describe pvc"),
        ('persistentvolumeclaim "none" not found', "claim none not found", "spec.volumes[data] names the claim: make it"),
        ('persistentvolumeclaim "none" is being deleted', "claim none is being deleted", "spec.volumes[data]"),
        ('persistentvolumeclaim "x" bound to non-existent persistentvolume "y"', "claim x has lost its volume", "template"),
        ("2 of a cause that nobody foresaw", "Unschedulable", "see kubectl describe pod digits-worker-1"),
    ],
)
def test_a_worker_without_a_place_names_what_it_lacks_and_the_field(causes: str, column: str, advice: str) -> None:
    workers = {"replicas": 2, "capacityType": "spot", "resources": {"limits": {"nvidia.com/gpu": 16}}}
    volumes = [{"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "none"}}]
    job = Simulation(volumes=volumes, workers=workers)
    job.settle()
    before = dict(job.status)
    unplaced(job, "digits-worker-1", f"0/2 nodes are available: {causes}{NO_VICTIMS}")
    job.settle()
    assert (job.status["phase"], job.status["reason"]) == ("Pending", column)
    assert job.why(names.WORKERS_READY) == "Unschedulable"
    said = job.said(names.WORKERS_READY)
    assert said.startswith(f"digits-worker-1: 0/2 nodes are available: {causes}; ")
    assert advice in said
    assert "preemption" not in said
    assert not job.true(names.STALLED)  # a node may be on its way
    (told,) = events(before, job.status)
    assert (told.kind, told.reason, told.message) == ("Warning", "Unschedulable", said)


def test_of_several_causes_the_most_telling_comes_first() -> None:
    job = Simulation(workers={"replicas": 1, "resources": {"limits": {"nvidia.com/gpu": 8}}})
    job.settle()
    full = "2 node(s) didn't match Pod's node affinity/selector, 3 Insufficient nvidia.com/gpu, 3 Insufficient memory"
    unplaced(job, "digits-worker-0", f"0/5 nodes are available: {full}{NO_VICTIMS}")
    job.settle()
    assert job.status["reason"] == "Insufficient nvidia.com/gpu"
    said = job.said(names.WORKERS_READY)
    assert (
        said.index("of nvidia.com/gpu it asks for 8") < said.index("of memory it asks for") < said.index("nodes are chosen by")
    )


def test_a_launcher_without_a_place_is_told_while_its_workers_wait() -> None:
    job = Simulation(launcher={"resources": {"requests": {"cpu": "64"}}})
    job.settle()
    job.ready()
    job.settle()
    before = dict(job.status)
    unplaced(job, "digits-launcher", f"0/2 nodes are available: 2 Insufficient cpu{NO_VICTIMS}")
    job.settle()
    assert job.true(names.WORKERS_READY)
    assert (job.status["phase"], job.status["reason"]) == ("WaitingForWorkers", "Insufficient cpu")
    assert job.why(names.RECONCILING) == "Unschedulable"
    assert "of cpu it asks for 64 (spec.launcher.resources)" in job.said(names.RECONCILING)
    assert [each.reason for each in events(before, job.status)] == ["Unschedulable"]
    job.running("digits-launcher")
    job.settle()
    assert job.true(names.RUNNING)


def test_a_worker_that_finds_its_place_is_no_longer_told() -> None:
    job = Simulation()
    job.settle()
    unplaced(job, "digits-worker-1", f"0/2 nodes are available: 2 Insufficient cpu{NO_VICTIMS}")
    job.settle()
    before: dict[str, Any] = dict(job.status)
    job.ready()
    job.settle()
    assert job.why(names.RECONCILING) != "Unschedulable"
    assert "Unschedulable" not in [each.reason for each in events(before, job.status)]


def test_a_scheduler_that_does_not_exist_is_named() -> None:
    job = Simulation()
    job.body["spec"]["workers"]["template"] = {"spec": {"schedulerName": "volcanoo"}}
    assert job.step().again == timedelta(seconds=20)  # nothing is ever told of such a pod: no event brings another look
    for pod in job.pods.values():
        pod["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    job.settle()
    job.later(21)
    job.settle()
    assert job.why(names.WORKERS_READY) == "Unschedulable"
    assert "'volcanoo' (spec.workers.template.spec.schedulerName)" in job.said(names.WORKERS_READY)
    assert not job.true(names.STALLED)
    job.ready()
    job.settle()
    assert job.true(names.WORKERS_READY)
