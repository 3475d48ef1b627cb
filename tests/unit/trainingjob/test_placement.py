"""A pod without a place says what it lacks, and in which field that was asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from simulation import Simulation

from penstock_operator import names
from penstock_operator.trainingjob.events import events
from penstock_operator.trainingjob.observe import shortened

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
        ("1 node(s) had volume node affinity conflict", "claim in another zone", "a claim of the pod"),
        ("pod has unbound immediate PersistentVolumeClaims", "claim not bound", "kubectl describe pvc"),
        ('persistentvolumeclaim "none" not found', "claim none not found", "spec.volumes[data] names the claim: make it"),
        (
            'persistentvolumeclaim "none" is being deleted',
            "claim none is being deleted",
            "spec.volumes[data] names the claim: make another when it is gone",
        ),
        (
            'persistentvolumeclaim "x" bound to non-existent persistentvolume "y"',
            "claim x has lost its volume",
            "spec.workers.template.spec names the claim: delete it and make another",
        ),
        ("2 node(s) didn't match pod anti-affinity rules", "anti-affinity", "template.spec.affinity.podAntiAffinity"),
        ("2 of a cause that nobody foresaw", "of a cause that nobody foresaw", "see kubectl describe pod digits-worker-1"),
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


def test_what_the_instance_type_asks_for_is_told_as_such() -> None:
    job = Simulation(workers={"replicas": 1, "instanceType": "p4d.24xlarge"})
    job.settle()
    unplaced(job, "digits-worker-0", f"0/2 nodes are available: 2 Insufficient nvidia.com/gpu, 2 Insufficient cpu{NO_VICTIMS}")
    job.settle()
    gives = "or what instanceType 'p4d.24xlarge' gives"
    assert f"of nvidia.com/gpu it asks for 8 (spec.workers.resources, {gives})" in job.said(names.WORKERS_READY)


def test_a_claim_of_a_lustre_volume_is_not_for_the_user_to_make() -> None:
    job = Simulation(volumes=[{"name": "d", "mountPath": "/data", "lustreVolume": "data"}])
    job.volume = {"metadata": {"name": "data"}, "status": {"phase": "Available"}}
    job.settle()
    unplaced(job, "digits-worker-0", '0/2 nodes are available: persistentvolumeclaim "data" not found. not found')
    job.settle()
    assert "see kubectl describe lustrevolume data" in job.said(names.WORKERS_READY)
    assert "make it" not in job.said(names.WORKERS_READY)


def test_a_worker_behind_gates_waits_without_a_warning() -> None:
    job = Simulation()
    job.settle()
    before = dict(job.status)
    gates = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "non-empty scheduling gates"}
    job.pods["digits-worker-1"]["status"] = {"phase": "Pending", "conditions": [gates]}
    job.settle()
    assert (job.status["phase"], job.status["reason"]) == ("Pending", "SchedulingGated")
    assert job.said(names.WORKERS_READY).startswith("digits-worker-1 waits until its scheduling gates are removed")
    assert list(events(before, job.status)) == []


def test_a_replacement_without_a_place_is_told_while_the_job_restarts() -> None:
    job = Simulation().started()
    job.deleting("digits-worker-1")
    job.settle()
    before = dict(job.status)
    unplaced(job, "digits-worker-1-a2", f"0/2 nodes are available: 2 Insufficient cpu{NO_VICTIMS}")
    job.settle()
    assert (job.status["phase"], job.status["reason"]) == ("Restarting", "Insufficient cpu")
    assert [each.reason for each in events(before, job.status)] == ["Unschedulable"]


def test_a_running_ring_that_cannot_grow_says_so_and_runs_on() -> None:
    job = Simulation().started()
    job.body["spec"]["workers"]["replicas"] = 3
    job.settle()
    before = dict(job.status)
    unplaced(job, "digits-worker-2", f"0/2 nodes are available: 2 Insufficient cpu{NO_VICTIMS}")
    job.settle()
    assert job.true(names.RUNNING)
    assert job.status["phase"] == "Running"
    assert [each.reason for each in events(before, job.status)] == ["Unschedulable"]


def test_a_launcher_is_only_told_while_its_ring_is_whole() -> None:
    job = Simulation()
    job.settle()
    job.ready()
    job.settle()
    unplaced(job, "digits-launcher", f"0/2 nodes are available: 2 Insufficient cpu{NO_VICTIMS}")
    job.pods["digits-worker-0"]["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    job.settle()
    assert job.why(names.RECONCILING) == "WaitingForWorkers"


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


def test_a_scheduler_of_the_launcher_that_does_not_exist_is_named_too() -> None:
    job = Simulation(launcher={"template": {"spec": {"schedulerName": "volcanoo"}}})
    job.settle()
    job.ready()
    assert job.step().again == timedelta(seconds=20)
    job.pods["digits-launcher"]["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    job.settle()
    job.later(21)
    job.settle()
    assert job.why(names.RECONCILING) == "Unschedulable"
    assert "'volcanoo' (spec.launcher.template.spec.schedulerName)" in job.said(names.RECONCILING)


def test_the_scheduler_may_say_much_and_the_advice_is_whole() -> None:
    job = Simulation()
    job.settle()
    taints = ", ".join(f"1 node(s) had untolerated taint {{example.com/{'long' * 10}-{number}: true}}" for number in range(40))
    unplaced(job, "digits-worker-0", f"0/40 nodes are available: {taints}{NO_VICTIMS}")
    job.settle()
    assert job.said(names.WORKERS_READY).endswith("spec.workers.template.spec.tolerations has to name the taint")
    assert len(job.said(names.WORKERS_READY)) < 1000


@pytest.mark.parametrize("text", [" " * 400, "Back-off pulling " + "x" * 400, "word " * 100])
def test_long_words_of_the_cluster_are_cut_and_not_lost(text: str) -> None:
    found = shortened(text, 300)
    assert 225 < len(found) <= 300
    assert found.endswith(" …")
