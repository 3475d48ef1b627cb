"""One TrainingJob from inputs to model: made or found again, followed with its launcher's log, stopped when cancelled.

The job is watched, not polled; its status is the operator's and is only put into words here. A step that is killed leaves the
job running, and its retry goes on with it. A step that is cancelled, or gives up, stops the job first: GPUs nobody waits for
cost money. A job that is complete is never stopped, so that waiting for its model again costs nothing.

The deadline counts from the job's creation, over all tries. A job that did not keep it is suspended and marked, not deleted:
the next try of the step would make it anew, and train as long again.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from penstock_components import adoption, waiting
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object
from penstock_components.logs import Follower

from . import exported, page, preflight, progress, request
from .request import API_VERSION, KIND, Training

log = logging.getLogger(__name__)

SUSPENDED: Final = "penstock.dev/suspended-by-step"


class Outcome(NamedTuple):
    """What a good training leaves: metrics hold the last report's, the model's own over them, and how it went."""

    job_name: str
    model_uri: str
    model: dict[str, Any]
    metrics: dict[str, float]
    html: str


class GivenUp(ComponentError):
    """The step stops waiting, and the job with it."""


class TooLong(GivenUp):
    """The job did not end in time; another try would not either."""


def train(wanted: Training) -> Outcome:
    """Train; returns when the model is in S3.

    Raises:
        ComponentError: wrong inputs, a name that is taken, a job that failed (with rank, pod, exit code and last lines), was
            deleted, stands still or takes too long, or a model that does not come.
    """
    request.check(wanted)
    kube, wish = Kube(wanted.namespace), request.build(wanted)
    history, follower = progress.History(), Follower(kube, wanted.log_lines)
    with waiting.stop_on_signal(lambda: stop(kube, wish, wanted.on_cancel)):
        left = _left(kube, wish, wanted) if wanted.reuse_model else None
        if left is not None:
            return left
        found = adoption.start(kube, wish, failed=lambda job: adoption.condition(job, "Failed") is not None)
        _resume(kube, wish, found)
        try:
            job = _follow(kube, wish, wanted, follower, history)
        except TooLong as error:
            _give_up(kube, wish, str(error))
            raise TooLong(f"{error}; it is suspended, and a retry does not begin anew: delete it for that") from error
        except GivenUp as error:
            stop(kube, wish, wanted.on_cancel)
            raise GivenUp(f"{error}; on_cancel is {wanted.on_cancel}, that was done") from error
        follower.finish()
        if adoption.condition(job, "Failed"):
            launcher = job.get("status", {}).get("launcher", {}).get("pod", "")
            raise ComponentError(progress.failure(job, follower.tail(launcher)[-20:] if launcher else []))
        since = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
        model = exported.wait(wanted.model_uri, since, wanted.model_minutes * 60, job["status"].get("attempt"))
    return _outcome(job, model, history)


def stop(kube: Kube, wish: Object, how: str) -> None:
    """Delete or suspend the job if it is ours and not complete. Safe to call whether or not it was made."""
    found = adoption.own(kube, wish)
    if found is None or adoption.condition(found, "Complete"):
        return
    name = found["metadata"]["name"]
    if how == "Delete":
        adoption.delete(kube, wish)
        return
    _suspend(kube, name, {SUSPENDED: "true"})
    log.warning("TrainingJob %s suspended; a new run of this step resumes it", name)


def _give_up(kube: Kube, wish: Object, reason: str) -> None:
    found = adoption.own(kube, wish)
    if found is not None and not adoption.condition(found, "Complete"):
        _suspend(kube, found["metadata"]["name"], {SUSPENDED: "true", adoption.GIVEN_UP: reason})


def _suspend(kube: Kube, name: str, marks: dict[str, str]) -> None:
    kube.patch(API_VERSION, KIND, name, {"metadata": {"annotations": marks}, "spec": {"runPolicy": {"suspend": True}}})


def _left(kube: Kube, wish: Object, wanted: Training) -> Outcome | None:
    """The model of an earlier try whose job is gone (its time to live was over); None if it is not whole, or the job there."""
    name = wish["metadata"]["name"]
    if kube.get(API_VERSION, KIND, name) is not None:
        return None
    model = exported.look(wanted.model_uri).model
    if model is None:
        return None
    log.info("the model at %s is whole and its TrainingJob is gone; nothing is trained", model.uri)
    about: dict[str, object] = {"model": model.uri, "model bytes": model.bytes, **model.metrics}
    facts = {"job_name": name, "bytes": model.bytes, "sha256": model.sha256}
    return Outcome(name, model.uri, facts, model.metrics, page.render(name, about, progress.History()))


def _resume(kube: Kube, wish: Object, found: Object) -> None:
    """Undo a suspension of `stop`; a suspension by the user or a queue is theirs to end."""
    if SUSPENDED not in found["metadata"].get("annotations", {}):
        return
    suspend = bool(wish["spec"].get("runPolicy", {}).get("suspend", False))
    body = {"metadata": {"annotations": {SUSPENDED: None}}, "spec": {"runPolicy": {"suspend": suspend}}}
    kube.patch(API_VERSION, KIND, found["metadata"]["name"], body)
    log.info("TrainingJob %s resumed", found["metadata"]["name"])


def _follow(kube: Kube, wish: Object, wanted: Training, follower: Follower, history: progress.History) -> Object:
    """The job, once it is Complete or Failed."""
    name, lines = wish["metadata"]["name"], progress.Lines()
    stalled_since: float | None = None
    for job in kube.follow(API_VERSION, KIND, name, tick=min(30.0, wanted.stalled_minutes * 60, wanted.deadline_hours * 3600)):
        if job is None or not adoption.same(job, wish) or job["metadata"].get("deletionTimestamp"):
            raise ComponentError(f"TrainingJob {name} was deleted while this step waited for it; run the step again")
        now = time.monotonic()
        line = lines.next(job, now)
        if line:
            log.info("TrainingJob %s: %s", name, line)
        history.add(job)
        follower.follow(job.get("status", {}).get("launcher", {}).get("pod", ""))
        if any(adoption.condition(job, kind) for kind in ("Complete", "Failed")):
            return job
        age = datetime.now(UTC) - datetime.fromisoformat(job["metadata"]["creationTimestamp"])
        if age.total_seconds() > wanted.deadline_hours * 3600:
            raise TooLong(f"TrainingJob {name} did not end within {wanted.deadline_hours:g} h: {progress.state(job)}")
        stalled = adoption.condition(job, "Stalled")
        if stalled and stalled["reason"] in preflight.WRONG_SPEC:
            raise GivenUp(f"TrainingJob {name} cannot run as it is: {stalled['reason']}: {stalled['message']}")
        stalled_since = (stalled_since or now) if stalled else None
        if stalled and stalled_since and now - stalled_since >= wanted.stalled_minutes * 60:
            words = f"{stalled['reason']}: {stalled['message']}"
            raise GivenUp(f"TrainingJob {name} has stood still for {wanted.stalled_minutes:g} min: {words}")
    raise AssertionError("a followed object ends with None")


def _outcome(job: Object, model: exported.Exported, history: progress.History) -> Outcome:
    status = job["status"]
    found = status.get("progress", {})
    metrics = {name: float(value) for name, value in found.get("metrics", {}).items()} | model.metrics
    metrics["duration_seconds"] = adoption.seconds(status.get("startTime"), status.get("completionTime"))
    metrics["samples_per_second"] = float(found.get("samplesPerSecond", 0.0))
    metrics["restarts"] = float(sum(status.get("restarts", {}).values()))
    name = job["metadata"]["name"]
    about: dict[str, object] = {
        "TrainingJob": f"{job['metadata']['namespace']}/{name}",
        "image": job["spec"]["image"],
        "workers": job["spec"].get("workers", {}).get("replicas", 1),
        "model": model.uri,
        "model bytes": model.bytes,
        **metrics,
    }
    facts = {"job_name": name, "bytes": model.bytes, "sha256": model.sha256}
    return Outcome(name, model.uri, facts, metrics, page.render(name, about, history))
