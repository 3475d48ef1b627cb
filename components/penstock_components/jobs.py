"""A Kubernetes Job run to its end: made once, followed with its log, explained when it fails, deleted when cancelled.

The Job's name comes from the run and everything in the Job, so a step that is retried goes on with the Job it made. A failed
Job stays until its TTL, to be looked at; one whose pods never come to run is deleted, since it would wait for ever.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from . import adoption, names, pods, waiting
from .errors import ComponentError
from .kube import Kube, Object
from .logs import Follower

log = logging.getLogger(__name__)

# A Job's pods are called <job>-<5 characters>, in 63.
_LONGEST_NAME: Final = 57
_LABEL: Final = "batch.kubernetes.io/job-name"
# https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
_DISRUPTED: Final[Object] = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


class Finished(NamedTuple):
    """A Job that is complete."""

    name: str
    seconds: float


def build(
    prefix: str,
    run_id: str,
    image: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    resources: Mapping[str, Any],
    service_account: str = "",
    placement: Mapping[str, Any] | None = None,
    final_exit_codes: Sequence[int] = (),
    backoff_limit: int = 0,
    deadline_seconds: int = 3600,
    ttl_seconds: int = 86400,
) -> Object:
    """The Job: one restricted pod, one container `main`. `resources` as in a container, `placement` any part of a pod spec.

    A pod that ends with one of `final_exit_codes` fails the Job at once; one that was evicted or whose node went does not count
    against `backoff_limit`.
    """
    container = {
        "name": "main",
        "image": image,
        "command": list(command),
        "env": pods.environment(env),
        "resources": adoption.plain(dict(resources)),
    }
    labels = {"app.kubernetes.io/name": prefix, "app.kubernetes.io/managed-by": "penstock-components"}
    template = pods.template(container, labels, service_account, adoption.plain(placement or {}))
    template["spec"] = {**template["spec"], "restartPolicy": "Never"}  # failed pods stay, and with them their logs
    spec = {
        "backoffLimit": backoff_limit,
        "activeDeadlineSeconds": deadline_seconds,
        "ttlSecondsAfterFinished": ttl_seconds,
        "podFailurePolicy": {"rules": [*_final(final_exit_codes), _DISRUPTED]},
        "template": template,
    }
    name = names.deterministic(prefix, run_id, spec, limit=_LONGEST_NAME)
    annotations = {"penstock.dev/run-id": run_id} if run_id else {}
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    return adoption.marked({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})


def _final(exit_codes: Sequence[int]) -> list[Object]:
    codes = {"containerName": "main", "operator": "In", "values": sorted(exit_codes)}
    return [{"action": "FailJob", "onExitCodes": codes}] if exit_codes else []


def run(kube: Kube, job: Object, *, stuck_seconds: float = 60.0, every: float = 2.0) -> Finished:
    """Run the Job until it is complete.

    Args:
        stuck_seconds: how long an image that cannot be pulled, or a container that cannot be made, is waited for.
        every: seconds between two looks at its pods; the Job itself is watched.

    Raises:
        ComponentError: it failed (with the pod's end and the last lines of its log), its pods do not come to run, it was
            deleted, or the name is taken.
    """
    name = job["metadata"]["name"]
    follower, patience = Follower(kube), pods.Patience(stuck_seconds)

    def describe() -> tuple[Object, list[Object]]:
        found = next(changes)
        if found is None:
            raise ComponentError(f"Job {name} was deleted while it ran; run the step again")
        its = kube.select("v1", "Pod", {_LABEL: name})
        for pod in its:
            if pod.get("status", {}).get("phase") != "Pending":
                follower.follow(pod["metadata"]["name"])
        patience.check(its)
        return found, its

    # Closed here: an error keeps this frame, and in it the watch's connection, for as long as somebody holds the error.
    with (
        waiting.stop_on_signal(lambda: adoption.delete(kube, job)),
        contextlib.closing(kube.follow("batch/v1", "Job", name, tick=every)) as changes,
    ):
        adoption.start(kube, job, failed=lambda found: adoption.condition(found, "Failed") is not None)
        try:
            found, its = waiting.poll(
                describe,
                until=lambda state: _over(state[0]),
                every=0.0,  # the watch waits
                # The Job's own deadline comes first; this one is for a cluster whose Job controller does not work.
                deadline=job["spec"]["activeDeadlineSeconds"] + 300,
                describe_state=_line,
            )
        except (pods.Stuck, waiting.Overdue) as error:
            adoption.delete(kube, job)
            raise ComponentError(f"Job {name} was given up and deleted: {error}") from error
        follower.finish()
    failed = adoption.condition(found, "Failed")
    if failed:
        raise ComponentError(_failure(name, failed, its, follower))
    return Finished(name, adoption.seconds(found["status"].get("startTime"), found["status"].get("completionTime")))


def _over(found: Object) -> bool:
    return any(adoption.condition(found, kind) for kind in ("Complete", "Failed"))


def _line(state: tuple[Object, list[Object]]) -> str:
    found, its = state
    status = found.get("status", {})
    counts = ", ".join(f"{status[key]} {key}" for key in ("active", "succeeded", "failed") if status.get(key))
    held = [words for pod in its if (words := pods.trouble(pod) or pods.unplaced(pod))]
    return f"Job {found['metadata']['name']}: {counts or 'no pod yet'}" + (f"; {held[0]}" if held else "")


def _failure(name: str, failed: Object, its: list[Object], follower: Follower) -> str:
    text = f"Job {name} failed: {failed.get('reason', '')}: {failed.get('message', '')}".rstrip(": ")
    ended = [pod for pod in its if pod.get("status", {}).get("phase") == "Failed"]
    # A Job past its deadline has deleted its pods; what was followed is all there is.
    newest = max(ended, key=lambda each: str(each["metadata"]["creationTimestamp"])) if ended else None
    words = pods.failure(newest) if newest else f"pod {follower.newest}" if follower.newest else "no pod ever ran"
    name = newest["metadata"]["name"] if newest else follower.newest
    tail = "\n".join(f"  {line}" for line in follower.tail(name)[-20:]) if name else ""
    return f"{text}\n{words}" + (f"; its log ends with:\n{tail}" if tail else "; it left no log")
