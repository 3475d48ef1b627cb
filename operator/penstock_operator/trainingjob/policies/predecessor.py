"""An earlier job of the same name, deleted a moment ago: its pods may still have their grace, and are writing a checkpoint.

`kubectl delete` followed by `kubectl apply` is everyday work. The garbage collector takes the earlier job's children away;
until then they hold names, nodes and the folder of checkpoints, and two rings at once would spoil it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock_operator import names
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed
from penstock_operator.trainingjob.verdict import Hold


def predecessor_going(observed: Observed) -> Hold | None:
    """Before the first pod of a job: pods that an earlier job of its name still has. Their deletion brings the next look."""
    left = [pod for pod in observed.pods if pod.owner_uid not in ("", observed.job.uid)]
    if not left or observed.workers or observed.launchers:
        return None
    until = max((pod.gone_at for pod in left if pod.gone_at), default=None)
    grace = f", until {until:%H:%M:%S} UTC at the latest" if until else ""
    pods = ", ".join(f"{pod.name} on {pod.node or 'no node'}" for pod in left[:3]) + (", …" if len(left) > 3 else "")
    return Hold(
        names.WORKERS_READY,
        Reason.WAITING_FOR_PREDECESSOR,
        f"{len(left)} pods of the deleted job of this name are still ending{grace}: {pods}",
    )


def waits_for_predecessor(workers_ready: Mapping[str, Any] | None) -> bool:
    """Whether the condition WorkersReady says so."""
    return workers_ready is not None and workers_ready["reason"] == Reason.WAITING_FOR_PREDECESSOR
