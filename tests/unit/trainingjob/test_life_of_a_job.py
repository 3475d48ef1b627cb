"""The ring from first start to its end: what is made when, and what is left."""

from __future__ import annotations

from datetime import timedelta

import pytest
from simulation import NOW, Simulation

from penstock_operator import names
from penstock_operator.conditions import difference
from penstock_operator.trainingjob.events import events
from penstock_operator.trainingjob.observe import Refusal


def test_a_new_job_gets_its_secret_policy_and_all_workers_at_once() -> None:
    made = Simulation(replicas=3).plan()
    assert [(child["kind"], child["metadata"]["name"]) for child in made.create] == [
        ("Secret", "digits-ring-11111111"),
        ("NetworkPolicy", "digits-ring"),
        ("Pod", "digits-worker-0"),
        ("Pod", "digits-worker-1"),
        ("Pod", "digits-worker-2"),
    ]


def test_a_reconcile_with_nothing_to_do_writes_nothing() -> None:
    job = Simulation().started()
    again = job.plan()
    assert again.create == ()
    assert again.remove == ()
    assert again.status is not None
    assert difference(job.status, again.status) == {}


def test_the_launcher_waits_for_every_worker_to_be_ready() -> None:
    job = Simulation(replicas=3)
    job.settle()
    job.ready("digits-worker-0", "digits-worker-2")
    job.running("digits-worker-1")
    job.settle()
    assert "digits-launcher" not in job.pods
    assert (job.status["phase"], job.status["reason"]) == ("WaitingForWorkers", "2/3")
    job.ready()
    job.settle()
    assert "digits-launcher" in job.pods


def test_the_host_file_lists_the_workers_in_rank_order() -> None:
    job = Simulation(replicas=2, workers={"replicas": 2, "slots": 4})
    job.settle()
    job.ready()
    job.settle()
    hostfile = job.pods["digits-launcher"]["metadata"]["annotations"][names.ANNOTATION_HOSTFILE]
    assert hostfile == "10.0.0.1 slots=4\n10.0.0.2 slots=4\n"


def test_a_program_that_succeeds_completes_the_job_and_frees_the_workers() -> None:
    job = Simulation().started()
    assert job.true(names.RUNNING)
    job.later(60)
    job.ended("digits-launcher", 0)
    job.settle()
    assert job.true(names.COMPLETE)
    assert not job.true(names.RUNNING)
    assert not job.true(names.FAILED)
    assert job.status["completionTime"] == "2026-01-02T03:05:05Z"
    assert set(job.pods) == {"digits-launcher"}


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ("All", set()),
        ("Running", {"digits-launcher"}),
        ("None", {"digits-launcher", "digits-worker-0", "digits-worker-1"}),
    ],
)
def test_the_clean_pod_policy_says_what_stays(policy: str, left: set[str]) -> None:
    job = Simulation(runPolicy={"cleanPodPolicy": policy}).started()
    job.ended("digits-launcher", 0)
    job.settle()
    assert set(job.pods) == left


def test_a_pod_that_a_sidecar_keeps_running_is_cleaned_up_too() -> None:
    job = Simulation().started()
    job.ended("digits-launcher", 0)
    status = job.pods["digits-launcher"]["status"]
    status["phase"] = "Running"
    status["containerStatuses"].append({"name": "istio-proxy", "state": {"running": {}}})
    job.settle()
    assert job.pods == {}


def test_the_log_of_a_launcher_is_kept_when_its_phase_is_told_later_than_its_end() -> None:
    job = Simulation().started()
    job.ended("digits-launcher", 0)
    job.pods["digits-launcher"]["status"]["phase"] = "Running"
    job.settle()
    assert job.true(names.COMPLETE)
    assert set(job.pods) == {"digits-launcher"}


def test_workers_are_told_as_created_when_there_are_some() -> None:
    job = Simulation(replicas=2)
    told = []
    for _ in range(6):
        before = dict(job.status)
        job.step()
        told += [(event.reason, event.message) for event in events(before, job.status)]
    assert [each for each in told if each[0] == "CreatedWorkers"] == [("CreatedWorkers", "created 2 workers")]
    waiting = Simulation(volumes=[{"name": "data", "mountPath": "/data", "lustreVolume": "nosuch"}])
    waiting.settle()
    assert "CreatedWorkers" not in [event.reason for event in events({}, waiting.status)]


def test_a_sidecar_that_keeps_the_pod_running_does_not_hide_the_end() -> None:
    job = Simulation().started()
    job.ended("digits-launcher", 0)
    job.pods["digits-launcher"]["status"]["phase"] = "Running"
    job.settle()
    assert job.true(names.COMPLETE)


def test_the_last_progress_report_is_kept_with_the_end() -> None:
    job = Simulation().started()
    job.progress = {"step": 10, "totalSteps": 10, "percent": 100}
    job.ended("digits-launcher", 0)
    job.settle()
    assert job.status["summary"]["progress"] == "100% 10/10"


def test_a_job_suspended_at_creation_makes_nothing() -> None:
    job = Simulation(runPolicy={"suspend": True})
    job.settle()
    assert job.created == []
    assert job.status["phase"] == "Suspended"


def test_suspension_frees_every_pod_and_resumption_is_a_new_attempt_that_counts_as_no_restart() -> None:
    job = Simulation().started()
    job.body["spec"]["runPolicy"] = {"suspend": True}
    job.settle()
    assert job.pods == {}
    assert job.true(names.SUSPENDED)
    job.body["spec"]["runPolicy"] = {"suspend": False}
    job.later(100)
    job.settle()
    assert set(job.pods) == {"digits-worker-0-a2", "digits-worker-1-a2"}
    job.ready()
    job.settle()
    assert "digits-launcher-a2" in job.pods
    assert job.status["restarts"] == {"code": 0, "infrastructure": 0}
    assert job.status["startTime"] == "2026-01-02T03:05:45Z"


def test_resumption_does_not_wait_for_pods_that_are_still_going() -> None:
    job = Simulation().started()
    job.body["spec"]["runPolicy"] = {"suspend": True}
    kept = dict(job.pods)
    job.settle()
    job.pods = kept
    for name in kept:
        job.deleting(name)
    job.body["spec"]["runPolicy"] = {"suspend": False}
    job.settle()
    assert {"digits-worker-0-a2", "digits-worker-1-a2"} <= set(job.pods)
    assert job.status["attempt"] == 2


def test_growing_a_running_ring_restarts_it_with_all_workers() -> None:
    job = Simulation(replicas=2).started()
    job.body["spec"]["workers"]["replicas"] = 3
    job.settle()
    assert "digits-worker-2" in job.pods
    assert job.true(names.RUNNING), "the training goes on until the new worker is there"
    job.ready()
    job.settle()
    assert "digits-launcher" not in job.pods
    assert job.pods["digits-launcher-a2"]["metadata"]["annotations"][names.ANNOTATION_WORKERS] == "3"
    assert job.status["restarts"] == {"code": 0, "infrastructure": 0}


def test_growth_that_finds_no_room_does_not_stop_the_training() -> None:
    job = Simulation(replicas=2).started()
    job.body["spec"]["workers"]["replicas"] = 3
    job.refusal = Refusal("QuotaExceeded", "pods: 2 of 2 used", job.now + timedelta(seconds=30))
    job.settle()
    assert {"digits-worker-0", "digits-worker-1", "digits-launcher"} <= set(job.pods)
    assert job.true(names.STALLED)
    assert job.status["attempt"] == 1


def test_pods_of_another_spec_are_replaced_by_a_new_attempt() -> None:
    job = Simulation().started()
    job.body["spec"]["workers"]["template"] = {"spec": {"priorityClassName": "high"}}
    job.settle()
    assert set(job.pods) == {"digits-worker-0-a2", "digits-worker-1-a2"}
    assert job.status["restarts"] == {"code": 0, "infrastructure": 0}
    job.ready()
    job.settle()
    job.running("digits-launcher-a2")
    job.settle()
    assert job.true(names.RUNNING)


def test_a_suspension_that_nobody_saw_leaves_no_pod_of_the_old_spec() -> None:
    job = Simulation().started()
    job.body["spec"]["env"] = [{"name": "LR", "value": "2"}]
    job.settle()
    assert set(job.pods) == {"digits-worker-0-a2", "digits-worker-1-a2"}


def test_suspended_before_its_first_status_a_job_resumes_without_a_restart() -> None:
    job = Simulation()
    job.step()
    job.body["status"] = {}
    for name in list(job.pods):
        job.deleting(name, grace=30)
    job.body["spec"]["runPolicy"] = {"suspend": True}
    job.settle()
    job.body["spec"]["runPolicy"] = {"suspend": False}
    job.settle()
    assert {"digits-worker-0-a2", "digits-worker-1-a2"} <= set(job.pods)
    assert job.status["restarts"] == {"code": 0, "infrastructure": 0}


def test_a_job_that_succeeded_before_its_suspension_was_seen_is_complete() -> None:
    job = Simulation().started()
    job.ended("digits-launcher", 0)
    job.body["spec"]["runPolicy"] = {"suspend": True}
    job.settle()
    assert job.true(names.COMPLETE)


def test_a_launcher_on_its_way_out_is_given_its_time_before_the_next_one_starts() -> None:
    job = Simulation(replicas=3, launcher={"template": {"spec": {"terminationGracePeriodSeconds": 120}}}).started()
    job.slow_to_go = True
    job.body["spec"]["workers"]["replicas"] = 2
    assert [removal.pod.name for removal in job.step().remove] == ["digits-launcher"]
    job.settle()  # from what the operator knows itself: the watch has not shown it yet
    assert "digits-launcher-a2" not in job.pods
    assert job.plan().again == timedelta(seconds=120)
    job.deleting("digits-launcher", grace=100)
    job.settle()
    assert "digits-launcher-a2" not in job.pods
    assert job.plan().again == timedelta(seconds=100)
    job.gone("digits-launcher")
    job.settle()
    assert "digits-launcher-a2" in job.pods


def test_a_launcher_whose_deletion_failed_is_asked_again_to_go_and_is_given_its_time() -> None:
    job = Simulation(replicas=3).started()
    job.undeletable = True
    job.body["spec"]["workers"]["replicas"] = 2
    job.settle()
    job.later(100)
    job.settle()
    assert "digits-launcher-a2" not in job.pods
    assert job.plan().again is not None
    job.undeletable, job.slow_to_go = False, True
    job.settle()
    assert job.plan().again == timedelta(seconds=30)
    job.later(31)
    job.settle()
    assert {"digits-launcher", "digits-launcher-a2"} & set(job.pods) == {"digits-launcher-a2"}


def test_a_launcher_that_stays_terminating_on_a_dead_node_delays_the_next_one_by_its_grace() -> None:
    job = Simulation().started()
    job.deleting("digits-launcher", grace=30)
    job.settle()
    job.later(29)
    job.settle()
    assert "digits-launcher-a2" not in job.pods
    job.later(1)
    job.settle()
    assert {"digits-launcher", "digits-launcher-a2"} <= set(job.pods)


def test_a_launcher_without_any_grace_is_nevertheless_gone_before_the_next_one() -> None:
    job = Simulation(replicas=3, launcher={"template": {"spec": {"terminationGracePeriodSeconds": 0}}}).started()
    job.undeletable = True
    job.body["spec"]["workers"]["replicas"] = 2
    job.settle()
    assert "digits-launcher-a2" not in job.pods
    assert job.plan().again == timedelta(seconds=1)


def test_a_secret_is_asked_for_again_with_every_pod() -> None:
    job = Simulation().started()
    job.deleting("digits-worker-1")
    kinds = [child["kind"] for made in (job.step(), job.step()) for child in made.create]
    assert kinds == ["Secret", "NetworkPolicy", "Pod"]


def test_shrinking_a_running_ring_removes_the_highest_workers_and_restarts_it() -> None:
    job = Simulation(replicas=3).started()
    job.body["spec"]["workers"]["replicas"] = 2
    job.settle()
    assert set(job.pods) == {"digits-worker-0", "digits-worker-1", "digits-launcher-a2"}


def test_the_deadline_fails_the_job_and_frees_its_pods() -> None:
    job = Simulation(runPolicy={"activeDeadlineSeconds": 60}).started()
    assert job.plan().again is not None
    job.later(61)
    job.settle()
    assert job.why(names.FAILED) == "DeadlineExceeded"
    assert job.pods == {}


def test_a_finished_job_is_deleted_after_its_time_to_live() -> None:
    job = Simulation(runPolicy={"ttlSecondsAfterFinished": 30}).started()
    job.ended("digits-launcher", 0)
    job.settle()
    waiting = job.plan()
    assert not waiting.remove_job
    assert waiting.again is not None
    job.later(31)
    assert job.plan().remove_job


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    job = Simulation().started()
    job.body["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    nothing = job.plan()
    assert (nothing.create, nothing.remove, nothing.status) == ((), (), None)


def test_pods_of_another_owner_are_neither_counted_nor_removed() -> None:
    job = Simulation().started()
    foreign = {
        "metadata": {**job.pods["digits-worker-1"]["metadata"], "name": "foreign", "uid": "x", "ownerReferences": []},
        "spec": {},
    }
    job.pods["foreign"] = foreign
    job.ended("digits-launcher", 0)
    job.settle()
    assert "foreign" in job.pods
    assert job.status["workers"]["desired"] == 2


def test_a_custom_launcher_is_rehearsed_before_the_first_worker_and_only_then() -> None:
    job = Simulation(launcher={"template": {"spec": {"nodeselector": {}}}})
    [rehearsed] = job.plan().rehearse
    assert rehearsed["metadata"]["name"] == "digits-launcher"
    job.settle()
    job.deleting("digits-worker-1")
    job.settle()
    assert job.plan().rehearse == ()
    assert Simulation().plan().rehearse == ()


def test_the_start_time_is_that_of_the_first_reconcile() -> None:
    job = Simulation()
    job.settle()
    job.later(500)
    job.ready()
    job.settle()
    assert job.status["startTime"] == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
