"""Failures and losses: who is to blame, what it costs, what is made anew, and what the status says of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from simulation import OPEN_MPI_EXIT_7, Simulation

from penstock_operator import names
from penstock_operator.trainingjob.events import events
from penstock_operator.trainingjob.observe import Refusal


def test_a_lost_worker_is_replaced_alone() -> None:
    job = Simulation(replicas=3).started()
    job.deleting("digits-worker-1")
    job.settle()
    assert job.status["restarts"] == {"code": 0, "infrastructure": 1}
    assert set(job.pods) == {"digits-worker-0", "digits-worker-1", "digits-worker-1-a2", "digits-worker-2"}
    job.gone("digits-worker-1")
    job.ready()
    job.later(5)
    job.settle()
    assert "digits-launcher-a2" in job.pods
    assert [name for name in job.created if name.startswith("digits-worker")] == [
        "digits-worker-0", "digits-worker-1", "digits-worker-2", "digits-worker-1-a2",
    ]  # fmt: skip


def test_a_pod_that_stays_terminating_on_a_dead_node_stops_nothing() -> None:
    job = Simulation().started()
    job.deleting("digits-worker-1")
    job.settle()
    job.ready("digits-worker-0", "digits-worker-1-a2")
    job.later(5)
    job.settle()
    job.running("digits-launcher-a2")
    job.settle()
    assert job.true(names.RUNNING)
    assert job.status["attempt"] == 2
    assert job.status["restarts"]["infrastructure"] == 1


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ({"reason": "Evicted"}, "WorkerLost"),
        ({"reason": "NodeShutdown"}, "WorkerLost"),
        ({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}, "WorkerLost"),
        ({}, "WorkerLost"),
    ],
)
def test_what_the_cluster_takes_away_is_free(pod: dict[str, Any], reason: str) -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-worker-0", 137, **pod)
    job.settle()
    assert job.why(names.RESTARTING) == reason
    assert job.status["restarts"] == {"code": 0, "infrastructure": 1}


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(
    "pod", [{"reason": "Evicted"}, {"reason": "Terminated"}, {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}]
)
@pytest.mark.parametrize("name", ["digits-worker-0", "digits-launcher"])
def test_whatever_code_a_pod_that_was_taken_away_ends_with_it_is_free(code: int, pod: dict[str, Any], name: str) -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended(name, code, **pod)
    job.settle()
    assert job.status["restarts"] == {"code": 0, "infrastructure": 1}
    assert not job.true(names.COMPLETE)


def test_a_program_that_saves_and_exits_0_because_it_was_told_to_go_has_not_succeeded() -> None:
    job = Simulation().started()
    job.deleting("digits-launcher", grace=30)
    job.later(2)
    job.ended("digits-launcher", 0)
    seen_at_once = job.plan()
    job.later(1)
    job.deleting("digits-launcher", grace=0)  # the kubelet's own, last deletion
    job.settle()
    assert job.status["restarts"] == {"code": 0, "infrastructure": 1}
    assert (seen_at_once.status or {})["restarts"] == {"code": 0, "infrastructure": 1}


def test_a_program_that_ended_before_its_pod_was_deleted_has_succeeded() -> None:
    job = Simulation().started()
    job.ended("digits-launcher", 0)
    job.later(2)
    job.deleting("digits-launcher", grace=30)
    job.settle()
    assert job.true(names.COMPLETE)


def test_a_worker_that_wrote_more_than_its_limit_is_the_programs_fault() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "
    job.ended("digits-worker-0", 137)
    job.pods["digits-worker-0"]["status"] |= {"reason": "Evicted", "message": message}
    job.settle()
    assert job.why(names.FAILED) == "WorkerFailed"


def test_a_launcher_that_is_gone_without_a_trace_is_a_loss_and_a_new_attempt() -> None:
    job = Simulation().started()
    job.gone("digits-launcher")
    job.settle()
    assert "digits-launcher" not in job.pods
    job.later(5)
    job.settle()
    assert "digits-launcher-a2" in job.pods
    assert "digits-launcher" not in job.pods
    assert job.status["restarts"] == {"code": 0, "infrastructure": 1}


def test_a_node_whose_clock_is_ahead_delays_no_verdict() -> None:
    job = Simulation().started()
    job.later(3600)
    job.ended("digits-launcher", 1)
    job.later(-3600)
    again = job.plan().again
    assert again is not None
    assert again <= timedelta(seconds=3)


def test_a_refused_launcher_does_not_cost_the_workers() -> None:
    job = Simulation()
    job.settle()
    job.ready()
    job.refusal = Refusal("QuotaExceeded", "pods: 2 of 2 used", job.now + timedelta(seconds=30), launcher=True)
    job.settle()
    assert set(job.pods) == {"digits-worker-0", "digits-worker-1"}
    assert job.true(names.STALLED)
    assert job.said(names.STALLED).startswith("pods: 2 of 2 used; what is used counts the workers of this job")
    told = dict(job.status)
    job.later(31)
    assert list(events(told, job.plan().status or {})) == []  # it is tried again, and nothing goes on before that succeeds


def test_a_launcher_that_is_wrong_gives_the_ring_back_until_it_is_mended() -> None:
    job = Simulation()
    job.settle()
    job.ready()
    job.refusal = Refusal("PodRefused", "unknown field", job.now + timedelta(seconds=30), launcher=True)
    job.settle()
    assert job.pods == {}
    assert job.why(names.STALLED) == "PodRefused"


def test_a_worker_out_of_memory_is_the_programs_fault() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-worker-0", 137, exit_reason="OOMKilled")
    job.settle()
    assert job.why(names.FAILED) == "WorkerFailed"
    assert "(OOMKilled): there is no limit in spec.workers.resources" in job.said(names.FAILED)
    assert job.status["failure"]["reason"] == "OOMKilled"


def test_a_worker_over_its_memory_limit_tells_the_limit_and_its_field() -> None:
    job = Simulation(
        workers={"replicas": 2, "resources": {"limits": {"memory": "256Mi"}}}, runPolicy={"maxRestarts": 0}
    ).started()
    job.ended("digits-worker-0", 137, exit_reason="OOMKilled")
    job.settle()
    assert "(OOMKilled): the limit is 256Mi (spec.workers.resources.limits.memory)" in job.said(names.FAILED)


def test_an_eviction_that_is_told_after_the_containers_end_is_judged_as_one() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-worker-0", 0, exit_reason="Completed")
    evicted = job.pods["digits-worker-0"]["status"]
    job.pods["digits-worker-0"]["status"] = {**evicted, "phase": "Running"}
    job.settle()
    assert job.plan().again is not None
    assert not job.true(names.FAILED)
    over = 'Usage of EmptyDir volume "cache" exceeds the limit "1Ki". '
    job.pods["digits-worker-0"]["status"] = {**evicted, "phase": "Failed", "reason": "Evicted", "message": over}
    job.settle()
    assert 'was evicted: Usage of EmptyDir volume "cache" exceeds the limit "1Ki"; 0 of 0' in job.said(names.FAILED)


def test_a_container_whose_pod_says_no_last_word_is_judged_all_the_same() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-worker-0", 3)
    job.pods["digits-worker-0"]["status"]["phase"] = "Running"
    job.settle()
    assert not job.true(names.FAILED)
    job.later(60)
    job.settle()
    assert "ended with exit code 3" in job.said(names.FAILED)


def test_a_vanished_launcher_is_started_again_for_free() -> None:
    job = Simulation().started()
    job.deleting("digits-launcher")
    job.settle()
    assert job.why(names.RESTARTING) == "LauncherLost"
    assert job.status["restarts"] == {"code": 0, "infrastructure": 1}


def test_a_failing_program_is_restarted_until_its_budget_is_spent() -> None:
    job = Simulation(runPolicy={"maxRestarts": 1}).started()
    job.ended("digits-launcher", 7, OPEN_MPI_EXIT_7)
    job.settle()
    assert job.status["restarts"] == {"code": 1, "infrastructure": 0}
    job.later(5)
    job.settle()
    job.ended("digits-launcher-a2", 7, OPEN_MPI_EXIT_7)
    job.settle()
    assert job.why(names.FAILED) == "ProgramFailed"
    failure = job.status["failure"]
    assert (failure["rank"], failure["exitCode"], failure["pod"], failure["attempt"]) == (1, 7, "digits-worker-1", 2)
    assert "  Exit code:    7" in failure["logTail"]


def test_the_last_failed_launcher_stays_for_its_log_and_earlier_ones_go() -> None:
    job = Simulation(runPolicy={"maxRestarts": 5}).started()
    for attempt in ("", "-a2", "-a3"):
        job.ended(f"digits-launcher{attempt}", 7, OPEN_MPI_EXIT_7)
        job.settle()
        job.later(100)
        job.settle()
    assert {name for name in job.pods if "launcher" in name} == {"digits-launcher-a3", "digits-launcher-a4"}


def test_a_launcher_out_of_memory_is_told_as_that() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 137, exit_reason="OOMKilled")
    job.settle()
    assert job.said(names.FAILED).startswith("launcher digits-launcher ran out of memory; raise spec.launcher.resources")


def test_a_refused_pod_gives_back_what_was_made_and_is_asked_for_again_later() -> None:
    job = Simulation()
    job.step()
    job.refusal = Refusal("QuotaExceeded", "pods is forbidden: exceeded quota", job.now + timedelta(seconds=30))
    job.settle()
    assert job.pods == {}
    assert (job.status["phase"], job.status["reason"]) == ("Pending", "QuotaExceeded")
    job.later(31)
    job.settle()
    assert set(job.pods) == {"digits-worker-0", "digits-worker-1"}


def test_a_refused_replacement_does_not_cost_the_healthy_workers() -> None:
    job = Simulation().started()
    job.deleting("digits-worker-1")
    job.step()
    job.refusal = Refusal("QuotaExceeded", "exceeded quota", job.now + timedelta(seconds=30))
    job.settle()
    assert "digits-worker-0" in job.pods
    assert job.true(names.STALLED)


@pytest.mark.parametrize(
    "template",
    [
        {"spec": {"securityContext": {"runAsUser": 4242}}},
        {"spec": {"containers": [{"name": "launcher", "securityContext": {"runAsUser": 4242}}]}},
    ],
)
def test_a_launcher_and_workers_of_two_users_are_not_begun(template: dict[str, Any]) -> None:
    job = Simulation(launcher={"template": template})
    job.settle()
    assert job.created == []
    assert job.why(names.STALLED) == "UnusableUser"
    assert "1000 by spec.workers.template and 4242 by spec.launcher.template" in job.said(names.STALLED)
    job.body["spec"]["workers"]["template"] = {"spec": {"securityContext": {"runAsUser": 4242}}}
    job.settle()
    assert job.created == ["digits-worker-0", "digits-worker-1"]
    assert not job.true(names.STALLED)


def test_endless_losses_end_in_a_failure() -> None:
    job = Simulation().started()
    job.body["status"]["restarts"] = {"code": 0, "infrastructure": 50}
    job.deleting("digits-worker-1")
    job.settle()
    assert job.why(names.FAILED) == "InfrastructureRestartsExhausted"


def test_a_spec_that_does_not_parse_stalls_with_the_field_and_makes_nothing() -> None:
    job = Simulation()
    job.body["spec"]["workers"]["replicas"] = "many"
    job.settle()
    assert job.created == []
    assert job.why(names.STALLED) == "InvalidSpec"
    assert "spec.workers.replicas" in job.said(names.STALLED)
