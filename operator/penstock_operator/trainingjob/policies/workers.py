"""What a dead worker means, and a ring of the wrong size: both restart the launcher, and only what is missing is made anew."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed, PodView
from penstock_operator.trainingjob.policies.references import or_by_type
from penstock_operator.trainingjob.verdict import Finish, Restart, Rules, Verdict, settling

# What `give_back` removes was not lost. The status that says so is written before the pods go.
_GIVEN_BACK = {
    Reason.QUOTA_EXCEEDED,
    Reason.POD_REFUSED,
    Reason.NAME_CONFLICT,
    Reason.UNKNOWN_INSTANCE_TYPE,
    Reason.DOES_NOT_FIT,
    Reason.UNUSABLE_USER,
}


def dead_worker(observed: Observed, rules: Rules, now: datetime) -> Verdict | None:
    """A worker of the ring that ended or is going, with no living successor; or one that vanished under a launcher.

    Pods of earlier attempts count only while the launcher has them: they were judged when their attempt ended, and one on a
    dead node may stay Terminating for ever.
    """
    ring, spec, launcher = observed.ring, observed.job.spec, observed.launcher
    assert spec is not None
    stalled = observed.job.condition(names.STALLED)
    given_back = launcher is None and stalled is not None and stalled["status"] == "True" and stalled["reason"] in _GIVEN_BACK
    for pod in reversed(observed.workers):  # the newest of an index first
        in_use = (pod.attempt == observed.job.attempt or launcher is not None) and not (given_back and pod.deleting)
        if in_use and not pod.alive and pod.index not in ring and pod.index < spec.workers.replicas:
            # An eviction is told only with the phase, a moment after the container's end; until then it looks like an exit.
            told_late = settling(pod.finished_at, rules, now) if pod.over and not pod.finished else None
            return told_late or _judge(pod, spec)
    if launcher is not None:
        missing = [index for index in range(min(launcher.workers, spec.workers.replicas)) if index not in ring]
        newer = [pod.name for pod in ring.values() if pod.attempt > launcher.attempt]
        if missing or newer:
            return Restart(
                "infrastructure",
                Reason.WORKER_LOST,
                f"worker {missing[0] if missing else newer[0]} vanished while the launcher ran",
            )
    return None


def memory_of(spec: TrainingJobSpec) -> str:
    """What a worker may use and where that is written."""
    limit = spec.workers.resources.limits.get("memory")
    if limit is None:
        return "there is no limit in spec.workers.resources, so it was the template's, or the node ran out"
    return f"the limit is {limit} (spec.workers.resources.limits.memory{or_by_type(spec)}), and /dev/shm counts"


def _judge(pod: PodView, spec: TrainingJobSpec) -> Verdict:
    failure: dict[str, Any] = {
        "attempt": pod.attempt,
        "pod": pod.name,
        "node": pod.node,
        "reason": pod.reason or pod.exit_reason or "Deleted",
    }
    failure["logTail"] = [line[:500] for line in pod.exit_message.splitlines() if line.strip()][-20:]
    if pod.exit_code is not None:
        failure["exitCode"] = pod.exit_code
    where = f"{pod.name} on {pod.node}" if pod.node else pod.name
    if pod.over_limit:
        return Restart("code", Reason.WORKER_FAILED, f"worker {where} was evicted: {pod.message.rstrip('. ')}", failure)
    if pod.lost:
        return Restart(
            "infrastructure", Reason.WORKER_LOST, f"worker {where} was lost: {pod.reason or pod.message or 'deleted'}", failure
        )
    nothing_to_run = pod.exit_message.startswith("exec ") and "no such file or directory" in pod.exit_message
    if pod.exit_reason in ("StartError", "ContainerCannotRun") or pod.exit_code in (126, 127) or nothing_to_run:
        why = pod.exit_message.strip().splitlines()[-1:] or [pod.exit_reason]
        return Finish(
            False,
            Reason.CONTAINER_START_FAILED,
            f"worker {where} cannot start: {why[0][:300]}; the image needs sshd, bash and user {names.RUN_AS}",
            failure,
        )
    if pod.exit_code in (137, 143) and pod.exit_reason != "OOMKilled":
        return Restart("infrastructure", Reason.WORKER_LOST, f"worker {where} was killed (exit code {pod.exit_code})", failure)
    how = f"ended with exit code {pod.exit_code} ({pod.exit_reason or 'Error'})"
    if pod.exit_reason == "OOMKilled":
        how += f": {memory_of(spec)}"
    return Restart("code", Reason.WORKER_FAILED, f"worker {where} {how}", failure)


def resized(observed: Observed) -> Verdict | None:
    """The running launcher was made for another number of workers. A ring that grows goes on until the new workers are Ready:
    where there is no room for them yet, the training does not stop."""
    launcher, spec, ring = observed.launcher, observed.job.spec, observed.ring
    if launcher is None or spec is None or launcher.workers in (0, spec.workers.replicas):
        return None
    if not all(index in ring and ring[index].ready for index in range(spec.workers.replicas)):
        return None
    return Restart(
        "change", Reason.RESIZED, f"spec.workers.replicas changed from {launcher.workers} to {spec.workers.replicas}"
    )


def changed(observed: Observed) -> Verdict | None:
    """Living workers of another spec: a template was edited, or a suspension was over before it was seen."""
    current = observed.job.attempt
    old = [
        pod
        for pod in observed.workers
        if pod.alive and observed.outdated(pod) and (pod.attempt == current or observed.launcher is not None)
    ]
    if not old:
        return None
    return Restart("change", Reason.SPEC_CHANGED, f"the spec changed after {old[0].name} was made; the ring starts anew")
