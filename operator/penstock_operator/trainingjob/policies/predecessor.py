"""An earlier job of the same name, deleted a moment ago: its pods may still have their grace, and are writing a checkpoint.

`kubectl delete` followed by `kubectl apply` is everyday work. The garbage collector takes the earlier job's children away;
until then they hold names, nodes and the folder of checkpoints, and two rings at once would spoil it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed, PodView
from penstock_operator.trainingjob.verdict import Hold

# Between the kill of a pod and the end of its object a node unmounts, and tells the API server.
_SLACK = timedelta(seconds=30)


def predecessor_going(observed: Observed, now: datetime) -> Hold | None:
    """Before the first pod of a job: pods that an earlier job of its name still has. Their deletion brings the next look."""
    left = [pod for pod in observed.pods if pod.owner_uid not in ("", observed.job.uid)]
    if not left or observed.workers or observed.launchers:
        return None
    overdue = [pod for pod in left if _left(pod, now) <= timedelta(0)]
    waits = [_left(pod, now) for pod in left if pod.gone_at and pod not in overdue]
    message = _overdue(overdue[0]) if overdue else _going(left, observed)
    return Hold(names.WORKERS_READY, Reason.WAITING_FOR_PREDECESSOR, message, wait=min(waits, default=None))


def waits_for_predecessor(reconciling: Mapping[str, Any] | None) -> bool:
    """Whether the condition Reconciling says so."""
    return reconciling is not None and reconciling["reason"] == Reason.WAITING_FOR_PREDECESSOR


def _left(pod: PodView, now: datetime) -> timedelta:
    return pod.gone_at + _SLACK - now if pod.gone_at else _SLACK


def _going(left: list[PodView], observed: Observed) -> str:
    """One pod stands for all, and as long as it is there: a message with a count would be written once a pod."""
    before = (observed.job.condition(names.WORKERS_READY) or {}).get("message", "")
    if any(before.startswith(f"{pod.name} of the deleted job") for pod in left):
        return str(before)
    return f"{left[0].name} of the deleted job of this name is still ending; nothing is made before all its pods are gone"


def _overdue(pod: PodView) -> str:
    return (
        f"{pod.name} of the deleted job of this name should be gone since {pod.gone_at:%H:%M:%S} UTC: is "
        f"{pod.node or 'its node'} alive? kubectl delete pod {pod.name} --force lets this job start"
    )
