"""What a signal to a step means: its run is over, or its node is wanted.

A drained node, a spot node that is taken back and a pod of higher priority end a pod by eviction. Kubernetes then writes the
condition DisruptionTarget before the signal (https://kubernetes.io/docs/concepts/workloads/pods/disruptions/). KFP makes the
pod anew, and its next try goes on with the remote job: a day of training is not stopped because the little pod that watched it
had to move. A run that is terminated ends its pods without that condition.
"""

from __future__ import annotations

import logging
import os
from typing import Final

log = logging.getLogger(__name__)

# Of the 30 s between SIGTERM and SIGKILL; stopping the remote job needs some too.
_PATIENCE: Final = 5.0


def evicted() -> bool:
    """Whether this step's own pod is being evicted. Not known counts as no: a job that nobody follows costs money."""
    name = os.environ.get("KFP_POD_NAME")  # KFP gives it to every step
    if not name:
        return False
    # Takes most of a second to import, and not every step needs it but here.
    from . import adoption
    from .kube import Kube

    try:
        pod = Kube(patience=_PATIENCE).get("v1", "Pod", name)
    except Exception as error:
        log.warning("whether pod %s is evicted is not known: %s", name, error)
        return False
    return pod is not None and adoption.condition(pod, "DisruptionTarget") is not None
