"""Jobs that mount a LustreVolume: who waits for whom."""

from __future__ import annotations

from typing import Any

from simulation import Simulation

MOUNTS = [{"name": "data", "mountPath": "/data", "lustreVolume": "data"}]


def volume(phase: str = "Available", *, claim: str = "True", deleting: bool = False) -> dict[str, Any]:
    conditions = [{"type": "FileSystemAvailable", "status": "True"}, {"type": "ClaimBound", "status": claim}]
    metadata = {"deletionTimestamp": "2026-01-02T03:04:05Z"} if deleting else {}
    return {"metadata": metadata, "status": {"phase": phase, "reason": phase, "conditions": conditions}}


def test_a_ring_that_lost_a_worker_gets_another_while_its_volume_waits_to_be_deleted() -> None:
    job = Simulation(volumes=MOUNTS)
    job.volume = volume()
    job.started()
    job.volume = volume("Deleting", deleting=True)
    job.deleting("digits-worker-1")
    job.settle()
    assert "digits-worker-1-a2" in job.pods


def test_a_ring_gets_its_workers_while_its_volume_is_linked_to_more() -> None:
    job = Simulation(volumes=MOUNTS)
    job.volume = volume()
    job.started()
    job.volume = volume("Linking")
    job.deleting("digits-worker-1")
    job.settle()
    assert "digits-worker-1-a2" in job.pods


def test_a_ring_waits_for_a_claim_that_is_gone() -> None:
    job = Simulation(volumes=MOUNTS)
    job.volume = volume()
    job.started()
    job.volume = volume("Deleting", claim="False", deleting=True)
    job.deleting("digits-worker-1")
    job.settle()
    assert "digits-worker-1-a2" not in job.pods


def test_a_job_that_is_over_leaves_no_pod_that_would_keep_the_claim() -> None:
    job = Simulation(volumes=MOUNTS)
    job.volume = volume()
    job.started()
    job.ended("digits-launcher", 0)
    job.settle()
    assert job.pods == {}


def test_a_job_does_not_begin_with_a_volume_that_is_to_go_or_not_linked_yet() -> None:
    for found in (volume("Deleting", deleting=True), volume("Linking")):
        job = Simulation(volumes=MOUNTS)
        job.volume = found
        job.settle()
        assert job.pods == {}
        assert job.status["phase"] == "WaitingForStorage"
