"""Pods that will not start: named within one watch event, failed after a grace when the job never ran.

Errors are told apart by the kubelet's waiting reasons. The message stays the same while a pod flips between ErrImagePull and
ImagePullBackOff, so a stall is one status write. A job that already ran keeps waiting: its image is known to be good, and the
registry or the node will come back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.conditions import parse_time
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed, PodView
from penstock_operator.trainingjob.policies.placement import own_scheduler
from penstock_operator.trainingjob.policies.references import referring
from penstock_operator.trainingjob.verdict import Finish, Rules, Stall, Verdict

_IMAGE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
}
_CONFIG = {"CreateContainerConfigError"}
_START = {"CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
# A mount that hangs is told by the kubelet only when it times out, minutes later.
_ASK_AGAIN = timedelta(seconds=30)


def startup_error(observed: Observed, rules: Rules, now: datetime) -> Verdict | None:
    """The first pod that cannot start, if any."""
    job = observed.job
    for pod in _starting(observed):
        found = _waiting(pod, job.spec)
        if found is None:
            continue
        reason, message = found
        before = job.condition(names.STALLED)
        same = before is not None and before["status"] == "True" and before["reason"] == reason
        flips = reason == Reason.IMAGE_PULL_FAILED
        if flips and same and before is not None and before["message"].startswith(f"{pod.name} "):
            message = before["message"]
        since = (parse_time(before["lastTransitionTime"]) if same and before is not None else None) or now
        left = since + rules.startup_error - now
        if left.total_seconds() <= 0 and job.condition(names.RUNNING) is None:
            return Finish(
                False,
                reason,
                message,
                {"attempt": job.attempt, "pod": pod.name, "node": pod.node, "reason": pod.waiting_reason},
            )
        return Stall(reason, message, wait=left if left.total_seconds() > 0 else None)
    return _not_prepared(observed, rules, now) or _never_ready(observed, rules, now)


def unprepared(observed: Observed, rules: Rules, now: datetime) -> PodView | None:
    """The first pod that is on a node for long, but still without its volumes or network."""
    waiting = (pod for pod in _starting(observed) if pod.unprepared_since and now - pod.unprepared_since >= rules.startup_error)
    return next(waiting, None)


def _not_prepared(observed: Observed, rules: Rules, now: datetime) -> Verdict | None:
    """Only told, never failed: a mount or a node may be slow."""
    pod = unprepared(observed, rules, now)
    if pod is None:
        return None
    mounts = observed.job.spec is not None and bool(observed.job.spec.volumes)
    why = (
        "a Secret, ConfigMap or claim of spec.volumes may be missing or cannot be mounted" if mounts else "the node may be slow"
    )
    return Stall(
        Reason.POD_NOT_PREPARED,
        f"{pod.name} on {pod.node} waits for its volumes or its network since {pod.unprepared_since:%H:%M:%S}: "
        f"{observed.warning or why}; see {_look(pod, observed.job.spec, observed.warning)}",
        wait=_ASK_AGAIN,
    )


def _starting(observed: Observed) -> list[PodView]:
    return [*observed.members, *([observed.launcher] if observed.launcher and observed.launcher.alive else [])]


def _waiting(pod: PodView, spec: TrainingJobSpec | None) -> tuple[str, str] | None:
    detail = f" ({pod.waiting_message})" if pod.waiting_message else ""
    if pod.waiting_reason in _IMAGE:
        image = repr(spec.image) if spec else ""
        return (
            Reason.IMAGE_PULL_FAILED,
            f"{pod.name} cannot pull image {image}: check the name, the tag and imagePullSecrets{detail}",
        )
    if pod.waiting_reason in _CONFIG:
        words = pod.waiting_message or "the kubelet does not say why"
        root = "runAsNonRoot" in words
        what = "the image's user must not be root" if root else f"see {_look(pod, spec, words)}"
        return Reason.CONTAINER_CONFIG_FAILED, f"{pod.name} cannot be configured: {words}; {what}"
    if pod.waiting_reason in _START:
        return Reason.CONTAINER_START_FAILED, f"{pod.name} cannot start its container: check the image and the template{detail}"
    return None


def _look(pod: PodView, spec: TrainingJobSpec | None, words: str) -> str:
    return (referring(pod, spec, words) if spec else "") or f"kubectl describe pod {pod.name}"


def _never_ready(observed: Observed, rules: Rules, now: datetime) -> Verdict | None:
    """A worker that runs but does not answer on the ssh port. Under a launcher mpirun itself notices; a probe that a busy
    node answers late must not make a training job look stalled."""
    if observed.launcher is not None:
        return None
    for pod in observed.members:
        if pod.ready or pod.running_since is None:
            continue
        waited = now - pod.running_since
        why = f"does not answer on port {names.SSH_PORT}; see kubectl logs {pod.name}"
        if pod.sidecar:
            what = "cannot pull its image" if pod.sidecar_reason in _IMAGE else f"does not start ({pod.sidecar_reason})"
            why = f"its container {pod.sidecar!r} {what}; the worker's own is called {names.ROLE_WORKER!r} in workers.template"
        message = f"{pod.name} runs since {pod.running_since:%H:%M:%S} but {why}"
        if waited >= rules.worker_ready and observed.job.condition(names.RUNNING) is None:
            return Finish(
                False,
                Reason.WORKER_NOT_READY,
                message,
                {"attempt": pod.attempt, "pod": pod.name, "node": pod.node, "reason": "NotReady"},
            )
        if waited >= rules.startup_error:
            return Stall(Reason.WORKER_NOT_READY, message, wait=max(rules.worker_ready - waited, rules.settle))
    return None


def next_startup_check(observed: Observed, rules: Rules, now: datetime) -> float | None:
    """Seconds until a pod that is not prepared, or a running, silent worker becomes a stall; None when there is none."""
    pods = [*observed.members, *([observed.launcher] if observed.launcher else [])]
    moments = [pod.unprepared_since for pod in pods if pod.unprepared_since and not pod.ended]
    if observed.launcher is None:
        moments += [pod.running_since for pod in pods if pod.running_since and not pod.ready]
    silent = (pod for pod in pods if pod.unseen and own_scheduler(observed, pod.role))
    moments += [pod.created for pod in silent if pod.created and now - pod.created < rules.startup_error]
    waits = [(moment + rules.startup_error - now).total_seconds() for moment in moments]
    return max(0.1, min(wait for wait in waits)) if waits else None
