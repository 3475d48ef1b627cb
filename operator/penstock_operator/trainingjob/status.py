"""Status as a value: conditions, phase and the texts for columns, computed from what was observed.

A plan copies the status (`begin`), changes it and fills in what is derived (`finish`); the caller patches the difference, so
equal input gives no write. Only `set_condition` sets a transition time, and only when `status` flips.
"""

from __future__ import annotations

from datetime import datetime

from penstock_operator import conditions, names
from penstock_operator.conditions import Status, condition, is_true
from penstock_operator.names import Phase, Reason
from penstock_operator.trainingjob.observe import Job, Observed
from penstock_operator.trainingjob.policies.placement import Unplaced
from penstock_operator.trainingjob.policies.predecessor import waits_for_predecessor


def set_condition(
    status: Status, job: Job, kind: str, value: bool, reason: str, message: str, now: datetime, *, introduce: bool = False
) -> None:
    """Set one condition of a job."""
    conditions.set_condition(status, job.generation, kind, value, reason, message, now, introduce=introduce)


def begin(job: Job) -> Status:
    """A copy of the status to work on. Conditions carry the generation they were computed from."""
    status = dict(job.status)
    status["conditions"] = [{**one, "observedGeneration": job.generation} for one in status.get("conditions", ())]
    return status


def finish(status: Status, observed: Observed, unplaced: Unplaced | None = None) -> Status:
    """Fill in what is derived from the rest: counts, phase, reason and the texts for columns. `unplaced`: a pod that the job
    waits for."""
    job = observed.job
    ring = observed.ring
    desired = job.spec.workers.replicas if job.spec else 0
    done = is_true(status, names.COMPLETE) or is_true(status, names.FAILED)
    ready = sum(pod.ready for index, pod in ring.items() if index < desired)
    if not done:
        failed = sum(not pod.alive for pod in observed.workers)
        status["workers"] = {"desired": desired, "current": len(ring), "ready": ready, "failed": failed}
        status["selector"] = f"{names.LABEL_JOB}={job.name},{names.LABEL_ROLE}={names.ROLE_WORKER}"
    else:
        status["workers"] = {**status.get("workers", {}), "current": 0}
    if observed.progress is not None and not (job.is_true(names.COMPLETE) or job.is_true(names.FAILED)):
        status["progress"] = dict(observed.progress)  # the last report often comes with the end
    status["observedGeneration"] = job.generation
    status["restarts"] = {"code": 0, "infrastructure": 0} | status.get("restarts", {})
    status["phase"], status["reason"] = _phase(status, observed, unplaced)
    status["summary"] = _summary(status, done)
    return status


def _phase(status: Status, observed: Observed, unplaced: Unplaced | None) -> tuple[str, str]:
    for kind, phase in ((names.COMPLETE, Phase.COMPLETE), (names.FAILED, Phase.FAILED), (names.SUSPENDED, Phase.SUSPENDED)):
        if is_true(status, kind):
            return phase, (condition(status, kind) or {})["reason"]
    if is_true(status, names.RUNNING):
        return Phase.RUNNING, Reason.LAUNCHER_RUNNING
    stalled, restarting = condition(status, names.STALLED), condition(status, names.RESTARTING)
    if stalled and stalled["status"] == "True":
        return Phase.PENDING, stalled["reason"]
    storage = condition(status, names.STORAGE_READY)
    if storage and storage["status"] == "False":
        return Phase.WAITING_FOR_STORAGE, storage["reason"]
    if restarting and restarting["status"] == "True":
        return Phase.RESTARTING, unplaced.short if unplaced else restarting["reason"]
    if unplaced and not is_true(status, names.WORKERS_READY):
        return Phase.PENDING, unplaced.short
    if not observed.ring:
        waits = waits_for_predecessor(condition(status, names.RECONCILING))
        return Phase.PENDING, Reason.WAITING_FOR_PREDECESSOR if waits else Reason.CREATING_WORKERS
    counts = status["workers"]
    if counts["ready"] == counts["desired"]:
        return Phase.WAITING_FOR_WORKERS, unplaced.short if unplaced else Reason.STARTING_LAUNCHER
    held = condition(status, names.WORKERS_READY)
    if held and held["reason"] == Reason.SCHEDULING_GATED:
        return Phase.PENDING, Reason.SCHEDULING_GATED
    return Phase.WAITING_FOR_WORKERS, f"{counts['ready']}/{counts['desired']}"


def _summary(status: Status, done: bool) -> Status:
    built: Status = {"restarts": sum(status["restarts"].values())}
    counts, progress = status.get("workers"), status.get("progress") or {}
    if counts:
        built["workers"] = f"{counts['ready']}/{counts['desired']}"
    step, total, percent = progress.get("step"), progress.get("totalSteps"), progress.get("percent")
    if step is not None:
        built["progress"] = f"{percent}% {step}/{total}" if total and percent is not None else str(step)
    if not done and progress.get("etaSeconds") is not None:
        built["eta"] = duration(progress["etaSeconds"])
    return built


def duration(seconds: float) -> str:
    """Two units are enough: 3m10s, 2h05m, 1d03h."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"
