"""A job that is applied while the pods of the deleted job of its name are still ending."""

from __future__ import annotations

from datetime import timedelta

from simulation import Simulation

from penstock_operator import names
from penstock_operator.conditions import condition


def test_a_job_waits_for_the_pods_of_the_deleted_job_of_its_name_and_then_starts() -> None:
    earlier = Simulation().started()
    job = Simulation()
    job.body["metadata"]["uid"] = "of the job that was applied after"
    job.pods = earlier.pods
    for name in job.pods:
        job.deleting(name, grace=30)
    job.settle()
    assert job.created == []
    assert (job.status["phase"], job.status["reason"]) == ("Pending", "WaitingForPredecessor")
    assert condition(job.status, names.STALLED) is None
    told = job.said(names.WORKERS_READY)
    assert told.startswith("digits-worker-0 of the deleted job")
    job.gone("digits-launcher")
    job.settle()
    assert job.said(names.WORKERS_READY) == told
    assert job.plan().again == timedelta(seconds=60)
    job.later(61)
    job.settle()
    assert "kubectl delete pod digits-worker-0 --force" in job.said(names.WORKERS_READY)
    assert job.created == []
    for name in list(job.pods):
        job.gone(name)
    job.settle()
    assert job.created == ["digits-worker-0", "digits-worker-1"]
    assert job.status["reason"] != "WaitingForPredecessor"


def test_a_pod_of_another_groups_training_job_is_a_strangers() -> None:
    job = Simulation()
    stranger = Simulation().started().pods["digits-worker-1"]
    stranger["metadata"]["ownerReferences"][0] |= {"apiVersion": "sagemaker.services.k8s.aws/v1alpha1", "uid": "theirs"}
    job.pods["theirs"] = stranger
    job.settle()
    assert job.created == ["digits-worker-0", "digits-worker-1"]


def test_what_a_job_waits_for_after_its_predecessor_is_told_in_its_place() -> None:
    job = Simulation(volumes=[{"name": "data", "mountPath": "/data", "lustreVolume": "data"}])
    job.pods = Simulation().started().pods
    for pod in job.pods.values():
        pod["metadata"]["ownerReferences"][0]["uid"] = "of the deleted job"
    job.volume = {"metadata": {}, "status": {"phase": "Creating", "reason": "FileSystemCreating"}}
    job.settle()
    assert job.status["reason"] == "WaitingForPredecessor"
    job.pods.clear()
    job.settle()
    assert (job.status["phase"], job.why(names.WORKERS_READY)) == ("WaitingForStorage", "VolumeNotReady")
    job.volume["status"] = {"phase": "Available"}
    job.settle()
    assert job.true(names.STORAGE_READY)
    assert job.status["phase"] == "WaitingForWorkers"
