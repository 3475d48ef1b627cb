"""The decision: `plan(observed, rules, now)` says what the job's children and status should be. Pure; no I/O, no clock.

Read `plan` from top to bottom: what is over stays over, what is suspended holds nothing, then the first policy with a verdict
decides, and where none has one the ring is built: workers, then, when every one is Ready, the launcher.

Crash safety rests on three facts. Children's names follow from the job and the attempt in its status, so a repeated act is
harmless. A new attempt is written to the status first and acted on when it is read back. Status is patched before anything is
deleted, so what was decided (and why) is never lost with the pods.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from penstock_operator import names
from penstock_operator.api.trainingjob import CleanPodPolicy, TrainingJobSpec
from penstock_operator.conditions import Status, condition, format_time
from penstock_operator.names import Reason
from penstock_operator.trainingjob.children.common import Child
from penstock_operator.trainingjob.children.launcher import build_launcher
from penstock_operator.trainingjob.children.merge import merge
from penstock_operator.trainingjob.children.ring import build_network_policy, build_secret
from penstock_operator.trainingjob.children.worker import build_worker
from penstock_operator.trainingjob.hardware import Fitted, fit
from penstock_operator.trainingjob.observe import Job, Observed, PodView
from penstock_operator.trainingjob.policies.launcher import launcher_outcome, launcher_succeeded
from penstock_operator.trainingjob.policies.lifetime import (
    backoff_left,
    deadline_left,
    deadline_passed,
    sooner,
    time_to_live_left,
)
from penstock_operator.trainingjob.policies.placement import gated, own_scheduler, unplaced_launcher, unplaced_worker, unseen
from penstock_operator.trainingjob.policies.predecessor import predecessor_going, waits_for_predecessor
from penstock_operator.trainingjob.policies.startup import next_startup_check, startup_error
from penstock_operator.trainingjob.policies.storage import storage_missing, volumes_of, zone_layer
from penstock_operator.trainingjob.policies.user import users_differ
from penstock_operator.trainingjob.policies.workers import changed, dead_worker, resized
from penstock_operator.trainingjob.status import begin, finish, set_condition
from penstock_operator.trainingjob.verdict import Finish, Hold, Plan, Removal, Restart, Rules, Stall, Wait


def plan(observed: Observed, rules: Rules, now: datetime) -> Plan:
    """Decide what to do about one job now."""
    job = observed.job
    if job.deleting:
        return Plan()  # the garbage collector follows the owner references
    if job.is_true(names.COMPLETE) or job.is_true(names.FAILED):
        return _after_the_end(observed, now)
    if job.spec is None:
        return _stall(observed, Stall(Reason.INVALID_SPEC, job.error), now)
    if done := launcher_succeeded(observed):  # first of all: the end may have come while the operator was away
        return _finish(observed, done, now)
    fitted = fit(job.spec, rules.catalogue)
    if job.spec.run_policy.suspend:
        return _suspend(observed, fitted, now)
    if job.is_true(names.SUSPENDED):
        return _resume(observed, now)
    misfit = None
    if isinstance(fitted, Fitted):
        job = replace(job, spec=fitted.spec, layers=fitted.layers)
    elif job.attempt == 0:
        return _stall(observed, fitted, now)
    else:  # a change that no node can hold: nothing is made from it, and what was made before it goes on
        misfit = replace(fitted, give_back=job.condition(names.RUNNING) is None)
        observed = replace(observed, pods=tuple(replace(pod, spec_hash="") for pod in observed.pods))
    if job.attempt == 0:
        job = replace(job, status={**job.status, "attempt": 1, "startTime": format_time(now)})
    observed = replace(observed, job=_beside_its_data(job, observed))
    verdict = (
        deadline_passed(job, now)
        or launcher_outcome(observed, rules, now)
        or changed(observed)
        or dead_worker(observed, rules, now)
        or misfit
        or users_differ(observed)
        or resized(observed)
        or predecessor_going(observed, now)
        or storage_missing(observed)
        or _refused(observed, now)
        or startup_error(observed, rules, now)
    )
    match verdict:
        case Finish():
            return _finish(observed, verdict, now)
        case Restart():
            return _restart(observed, verdict, rules, now)
        case Stall():
            return _stall(observed, verdict, now)
        case Hold():
            return _hold(observed, verdict, now)
        case Wait():
            return Plan(again=verdict.wait)
    return _build(observed, rules, now)


def _beside_its_data(job: Job, observed: Observed) -> Job:
    zone = zone_layer(observed)
    if not zone:
        return job
    return replace(
        job, layers={role: merge(job.layers.get(role, {}), zone) for role in (names.ROLE_WORKER, names.ROLE_LAUNCHER)}
    )


# --- building the ring ------------------------------------------------------------------------------------------------------


def _build(observed: Observed, rules: Rules, now: datetime) -> Plan:
    """Make what is missing, remove what is over, say how far it is."""
    job, ring, launcher = observed.job, observed.ring, observed.launcher
    spec = job.spec
    assert spec is not None
    wanted = range(spec.workers.replicas)
    missing = [index for index in wanted if index not in ring]
    ready = not missing and all(ring[index].ready and ring[index].ip for index in wanted)
    pods = [build_worker(job, spec, index, job.attempt, rules.surroundings) for index in missing]
    pause = max(backoff_left(job, rules, now), _earlier_launcher(observed, now))
    if ready and launcher is None and pause <= timedelta(0):
        pods += [build_launcher(job, spec, job.attempt, [ring[index] for index in wanted])]
    # With every pod, not only with the first: a Secret whose write failed, or that was deleted, is made again.
    create = [*_ground(job, rules), *pods] if pods else []
    status = begin(job)
    unplaced = None
    # A job that was not taken says so until a try succeeds: one write, not two a try.
    if not (pods and (job.is_true(names.STALLED) or waits_for_predecessor(job.condition(names.RECONCILING)))):
        if volumes_of(spec):
            set_condition(status, job, names.STORAGE_READY, True, Reason.STORAGE_READY, "every LustreVolume is available", now)
        unplaced = unplaced_launcher(observed, rules, now) if ready else unplaced_worker(observed)
        no_place = unplaced.message if unplaced else ""
        _describe_workers(status, observed, missing, ready, no_place or unseen(observed, rules, now), now)
        _describe_launcher(status, observed, no_place if ready else "", now)
    return Plan(
        create=tuple(create),
        remove=tuple(Removal(pod) for pod in _over(observed, spec)),
        status=finish(status, observed, unplaced),
        rehearse=(build_launcher(job, spec, job.attempt, ()),) if len(missing) == len(wanted) and spec.launcher.custom else (),
        again=sooner(
            _next_look(observed, rules, now, pause if ready and launcher is None else timedelta(0)),
            # Of a pod that no scheduler looks at nothing is ever told.
            rules.startup_error
            if any(own_scheduler(observed, pod["metadata"]["labels"][names.LABEL_ROLE]) for pod in pods)
            else None,
        ),
    )


def _ground(job: Job, rules: Rules) -> Iterable[Child]:
    """What pods stand on."""
    yield build_secret(job, rules.surroundings)
    if rules.surroundings.network_policy:
        yield build_network_policy(job)


def _earlier_launcher(observed: Observed, now: datetime) -> timedelta:
    """Time that a launcher on its way out is still given: its ranks may be writing a checkpoint, and the next launcher kills
    what is left of them. On a dead node it ends with the grace period. One that does not know yet that it has to go (its
    deletion failed, or the operator did) has all of its time before it; `_over` asks for its deletion again."""
    earlier = [pod for pod in observed.launchers if pod.attempt < observed.job.attempt and not pod.ended]
    left = (pod.gone_at - now if pod.gone_at else max(pod.grace, timedelta(seconds=1)) for pod in earlier)
    return max(left, default=timedelta(0))


def _over(observed: Observed, spec: TrainingJobSpec) -> Iterable[PodView]:
    """Pods with no place in this attempt. The last failed launcher stays, for its log."""
    for pod in observed.workers:
        if not pod.deleting and (pod.ended or pod.index >= spec.workers.replicas or observed.ring.get(pod.index) is not pod):
            yield pod
    for pod in observed.launchers:
        earlier = pod.attempt < observed.job.attempt
        if not pod.deleting and earlier and (pod.attempt < observed.job.attempt - 1 or not pod.over):
            yield pod


def _describe_workers(
    status: Status, observed: Observed, missing: list[int], ready: bool, no_place: str, now: datetime
) -> None:
    """`no_place`: what keeps one from a node."""
    job, ring = observed.job, observed.ring
    assert job.spec is not None
    desired = job.spec.workers.replicas
    count = sum(pod.ready for pod in ring.values() if pod.index < desired)
    if ready:
        reason, message = Reason.WORKERS_READY, f"{count} of {desired} workers are Ready"
    elif no_place:
        reason, message = Reason.UNSCHEDULABLE, no_place
    elif gates := gated(observed):
        reason, message = Reason.SCHEDULING_GATED, gates
    elif missing:
        reason, message = Reason.CREATING_WORKERS, f"creating {len(missing)} of {desired} workers"
    else:
        reason, message = Reason.WAITING_FOR_WORKERS, f"{count} of {desired} workers are Ready"
    set_condition(status, job, names.WORKERS_READY, ready, reason, message, now, introduce=True)


def _describe_launcher(status: Status, observed: Observed, no_place: str, now: datetime) -> None:
    """`no_place`: what keeps it from a node, with its ring in hand."""
    job, launcher = observed.job, observed.launcher
    running = launcher is not None and launcher.alive and launcher.running_since is not None
    if launcher is not None:
        status["launcher"] = {"pod": launcher.name}
    if running:
        message = f"mpirun runs in {launcher.name}" if launcher else ""
        set_condition(status, job, names.RUNNING, True, Reason.LAUNCHER_RUNNING, message, now)
        set_condition(status, job, names.RESTARTING, False, Reason.LAUNCHER_RUNNING, "", now)
        set_condition(status, job, names.RECONCILING, False, Reason.SETTLED, "", now)
    else:
        waiting = condition(status, names.WORKERS_READY) or {"reason": Reason.ACCEPTED, "message": ""}
        if no_place:
            waiting = {"reason": Reason.UNSCHEDULABLE, "message": f"{no_place}; the workers wait for it"}
        set_condition(status, job, names.RUNNING, False, Reason.LAUNCHER_NOT_RUNNING, "", now)
        set_condition(status, job, names.RECONCILING, True, waiting["reason"], waiting["message"], now)
    set_condition(status, job, names.STALLED, False, Reason.SETTLED, "", now)


def _next_look(observed: Observed, rules: Rules, now: datetime, pause: timedelta) -> timedelta | None:
    """The nearest clock that can change the plan without any event."""
    deadline = deadline_left(observed.job, now)
    silent = next_startup_check(observed, rules, now)
    clocks = [pause if pause > timedelta(0) else None, deadline, timedelta(seconds=silent) if silent is not None else None]
    return min((clock for clock in clocks if clock is not None), default=None)


# --- verdicts ---------------------------------------------------------------------------------------------------------------


def _refused(observed: Observed, now: datetime) -> Stall | Hold | None:
    """Children that the API server did not take. What was made of a first start is given back: half a ring only holds nodes."""
    refusal = observed.refusal
    if refusal is None or now >= refusal.until:
        return None
    if refusal.reason == Reason.WAITING_FOR_PREDECESSOR:
        return Hold(names.WORKERS_READY, refusal.reason, refusal.message, wait=refusal.until - now)
    first = observed.job.condition(names.RUNNING) is None
    # A quota gives the last pod its place when another job ends; what is wrong with a pod only a new ring mends.
    waits = refusal.launcher and refusal.reason == Reason.QUOTA_EXCEEDED
    own = "; what is used counts the workers of this job, which wait for their launcher" if waits else ""
    return Stall(refusal.reason, refusal.message + own, give_back=first and not waits, wait=refusal.until - now)


def _hold(observed: Observed, verdict: Hold, now: datetime) -> Plan:
    status = begin(observed.job)
    set_condition(status, observed.job, verdict.condition, False, verdict.reason, verdict.message, now, introduce=True)
    if observed.job.condition(names.WORKERS_READY) is not None:  # may name what was waited for before
        set_condition(status, observed.job, names.WORKERS_READY, False, verdict.reason, verdict.message, now)
    set_condition(status, observed.job, names.RECONCILING, True, verdict.reason, verdict.message, now)
    set_condition(status, observed.job, names.STALLED, False, verdict.reason, "", now)
    return Plan(status=finish(status, observed), again=sooner(verdict.wait, deadline_left(observed.job, now)))


def _stall(observed: Observed, verdict: Stall, now: datetime) -> Plan:
    status = begin(observed.job)
    set_condition(status, observed.job, names.STALLED, True, verdict.reason, verdict.message, now)
    set_condition(status, observed.job, names.RECONCILING, False, verdict.reason, verdict.message, now)
    if not observed.job.is_true(names.RUNNING):
        set_condition(status, observed.job, names.WORKERS_READY, False, verdict.reason, verdict.message, now)
    held: list[PodView] = []
    if verdict.give_back:
        held = [pod for pod in (*observed.workers, *observed.launchers) if not pod.deleting]
        status["launcher"] = None
    clock = sooner(verdict.wait, deadline_left(observed.job, now))
    return Plan(status=finish(status, observed), remove=tuple(Removal(pod) for pod in held), again=clock)


def _restart(observed: Observed, verdict: Restart, rules: Rules, now: datetime) -> Plan:
    """Count it, write the new attempt, stop the old launcher. Pods are made when the new status is read back."""
    job, spec = observed.job, observed.job.spec
    assert spec is not None
    restarts = {"code": 0, "infrastructure": 0, **(job.status.get("restarts") or {})}
    if verdict.cause == "code" and restarts["code"] >= spec.run_policy.max_restarts:
        tried = f"; {restarts['code']} of {spec.run_policy.max_restarts} restarts were used (spec.runPolicy.maxRestarts)"
        return _finish(observed, Finish(False, verdict.reason, verdict.message + tried, verdict.failure), now)
    if verdict.cause == "infrastructure" and restarts["infrastructure"] >= rules.infrastructure_limit:
        text = f"{verdict.message}; {restarts['infrastructure']} losses of pods or nodes before it: look at the nodes"
        return _finish(observed, Finish(False, Reason.INFRASTRUCTURE_RESTARTS_EXHAUSTED, text, verdict.failure), now)
    status = begin(job)
    if verdict.cause != "change":
        status["restarts"] = restarts | {verdict.cause: restarts[verdict.cause] + 1}
    status["attempt"] = job.attempt + 1
    status["lastRestartTime"] = format_time(now)
    if verdict.failure:
        status["failure"] = dict(verdict.failure)
    set_condition(status, job, names.RUNNING, False, verdict.reason, verdict.message, now)
    set_condition(status, job, names.RESTARTING, True, verdict.reason, f"attempt {job.attempt + 1}: {verdict.message}", now)
    set_condition(status, job, names.RECONCILING, True, verdict.reason, verdict.message, now)
    set_condition(status, job, names.STALLED, False, Reason.SETTLED, "", now)
    going = [pod for pod in observed.launchers if pod.alive]
    return Plan(status=finish(status, observed), remove=tuple(Removal(pod) for pod in going), again=timedelta(0))


def _finish(observed: Observed, verdict: Finish, now: datetime) -> Plan:
    job = observed.job
    status = begin(job)
    launcher = observed.launcher
    ended = launcher.finished_at if launcher and launcher.finished_at and verdict.succeeded else now
    status["completionTime"] = format_time(ended)
    if verdict.failure:
        status["failure"] = dict(verdict.failure)
    elif verdict.succeeded:
        status["failure"] = None
    if launcher is not None:
        status["launcher"] = {"pod": launcher.name}
    for kind in (names.RUNNING, names.RESTARTING, names.RECONCILING):
        set_condition(status, job, kind, False, verdict.reason, "", now)
    set_condition(status, job, names.WORKERS_READY, False, verdict.reason, "the job is over", now)
    set_condition(
        status, job, names.COMPLETE if verdict.succeeded else names.FAILED, True, verdict.reason, verdict.message, now
    )
    # kstatus (Flux, Argo CD) reads Stalled=True as failed.
    set_condition(status, job, names.STALLED, not verdict.succeeded, verdict.reason, verdict.message, now)
    return Plan(
        status=finish(status, observed),
        remove=tuple(Removal(pod) for pod in _to_clean(observed)),
        again=time_to_live_left(replace(job, status=status), now),
    )


# --- suspended, resumed, over -----------------------------------------------------------------------------------------------


def _suspend(observed: Observed, fitted: Fitted | Stall, now: datetime) -> Plan:
    """Hold nothing. Hardware that cannot be is told already now: whoever resumes the job would meet it then."""
    job = observed.job
    status = begin(job)
    status["startTime"] = None
    message = "spec.runPolicy.suspend is true; set it to false to start"
    set_condition(status, job, names.SUSPENDED, True, Reason.SUSPENDED, message, now)
    for kind in (names.RUNNING, names.RESTARTING, names.RECONCILING, names.WORKERS_READY):
        set_condition(status, job, kind, False, Reason.SUSPENDED, "", now)
    misfit = fitted if isinstance(fitted, Stall) else Stall(Reason.SUSPENDED, "")
    set_condition(status, job, names.STALLED, misfit is fitted, misfit.reason, misfit.message, now)
    own = [pod for pod in (*observed.launchers, *observed.workers) if not pod.deleting]
    return Plan(status=finish(status, observed), remove=tuple(Removal(pod) for pod in own))


def _resume(observed: Observed, now: datetime) -> Plan:
    """A new attempt, so that new pods need not wait for the names of the old ones. It counts as no restart."""
    job = observed.job
    status = begin(job)
    # Suspended before its first status was written, it may have pods all the same: those of attempt 1.
    status["attempt"] = max(job.attempt, 1 if observed.pods else 0) + 1
    status["startTime"] = format_time(now)
    set_condition(status, job, names.SUSPENDED, False, Reason.RESUMED, "", now)
    set_condition(status, job, names.RECONCILING, True, Reason.RESUMED, "", now)
    return Plan(status=finish(status, observed), again=timedelta(0))


def _after_the_end(observed: Observed, now: datetime) -> Plan:
    """Terminal states never change; only pods and, in time, the job itself are cleaned up."""
    left = time_to_live_left(observed.job, now)
    if left is not None and left <= timedelta(0):
        return Plan(remove_job=True)
    status = begin(observed.job)
    status["observedGeneration"] = observed.job.generation
    return Plan(status=status, remove=tuple(Removal(pod) for pod in _to_clean(observed)), again=left)


def _to_clean(observed: Observed) -> Iterable[PodView]:
    spec = observed.job.spec
    policy = spec.run_policy.clean_pod_policy if spec else CleanPodPolicy.RUNNING
    if policy is CleanPodPolicy.RUNNING and spec and volumes_of(spec):
        # Kubernetes keeps a claim while any pod names it, also one that ended: the file system could not go, and would cost on.
        policy = CleanPodPolicy.ALL
    for pod in (*observed.workers, *observed.launchers):
        if not pod.deleting and (policy is CleanPodPolicy.ALL or (policy is CleanPodPolicy.RUNNING and not pod.over)):
            yield pod
