"""What holds whatever happens, in any order."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import OPEN_MPI_EXIT_7, OPEN_MPI_LOST, Simulation

from penstock_operator import names
from penstock_operator.api.status import TrainingJobStatus

HAPPENINGS = (
    "ready", "launch", "success", "failure", "broken", "evict", "delete", "gone", "suspend", "resume", "grow", "shrink",
    "later", "pull", "linger", "hurry", "undeletable", "deletable",
)  # fmt: skip


def happen(job: Simulation, what: str, which: int) -> None:
    """Let one thing happen to the job or to one of its pods."""
    pods = sorted(job.pods)
    launchers = [name for name in pods if "launcher" in name and not job.view(name).ended]
    workers = [name for name in pods if "worker" in name]
    policy = job.body["spec"].setdefault("runPolicy", {})
    match what:
        case "ready":
            job.ready(*(name for name in workers if not job.view(name).ended))
        case "launch" if launchers:
            job.running(launchers[-1])
        case "success" | "failure" | "broken" if launchers:
            code, text = {"success": (0, ""), "failure": (7, OPEN_MPI_EXIT_7), "broken": (1, OPEN_MPI_LOST)}[what]
            job.ended(launchers[-1], code, text)
        case "evict" if workers:
            job.ended(workers[which % len(workers)], 137, exit_reason="Error")
        case "delete" if pods:
            job.deleting(pods[which % len(pods)], grace=which * 10)
        case "gone" if pods:
            job.gone(pods[which % len(pods)])
        case "pull" if workers:
            job.waiting(workers[which % len(workers)], "ImagePullBackOff")
        case "suspend":
            policy["suspend"] = True
        case "resume":
            policy["suspend"] = False
        case "grow" | "shrink":
            replicas = job.body["spec"]["workers"]["replicas"]
            job.body["spec"]["workers"]["replicas"] = min(4, replicas + 1) if what == "grow" else max(1, replicas - 1)
        case "linger" | "hurry":
            job.slow_to_go = what == "linger"
        case "undeletable" | "deletable":
            job.undeletable = what == "undeletable"
        case "later":
            job.later(which * 7)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 5)), max_size=14))
def test_every_story_comes_to_rest_and_breaks_no_rule(story: list[tuple[str, int]]) -> None:
    job = Simulation()
    ended: dict[str, object] | None = None
    for what, which in story:
        happen(job, what, which)
        job.settle(limit=25)
        assert not (job.true(names.COMPLETE) and job.true(names.FAILED))
        running = [name for name in job.pods if "launcher" in name and job.view(name).alive]
        assert len(running) <= 1, f"two launchers: {running}"
        assert job.cut_short == []
        TrainingJobStatus.model_validate(job.status)
        if ended is not None:
            assert (job.status["phase"], job.status["completionTime"]) == (ended["phase"], ended["completionTime"])
        if job.true(names.COMPLETE) or job.true(names.FAILED):
            ended = dict(job.status)
    assert all(len(name) <= 63 for name in job.created)
