"""What the cluster would say to a TrainingJob before it is needed: the API server to its fields, the operator to its hardware.

The operator's word takes an object: a suspended copy of the job, which asks for nothing and is deleted at once. One that a
killed step leaves behind is found by the next and deleted then.
"""

from __future__ import annotations

from typing import Final

from penstock_components import adoption, names, waiting
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object

from .request import LONGEST_NAME

# Reasons of the condition Stalled that only another spec mends (docs/api.md).
WRONG_SPEC: Final = frozenset({"InvalidSpec", "UnknownInstanceType", "DoesNotFitInstanceType"})


def refusal(kube: Kube, wish: Object, seconds: float = 60.0) -> str:
    """Why this job would never run, in the API server's or the operator's words; '' if nothing speaks against it.

    Raises:
        ComponentError: nobody says: no right to make TrainingJobs, or no operator that looks at one within `seconds`.
    """
    if words := kube.refusal(wish):
        return words
    if "instanceType" not in wish["spec"].get("workers", {}):
        return ""
    probe = _suspended(wish)
    with waiting.stop_on_signal(lambda: adoption.delete(kube, probe)):
        try:
            made = adoption.start(kube, probe, failed=lambda found: False)
            return _verdict(kube, made, seconds)
        finally:
            adoption.delete(kube, probe)


def _suspended(wish: Object) -> Object:
    spec = {**wish["spec"], "runPolicy": {**wish["spec"].get("runPolicy", {}), "suspend": True}}
    name = names.deterministic("check", wish["metadata"]["name"], limit=LONGEST_NAME)
    return adoption.marked({**wish, "metadata": {**wish["metadata"], "name": name}, "spec": spec})


def _verdict(kube: Kube, made: Object, seconds: float) -> str:
    name = made["metadata"]["name"]
    silent = (
        f"the operator has not looked at TrainingJob {name} within {seconds:.0f} s; see `kubectl get pods -A -l "
        "app.kubernetes.io/name=penstock` and the operator's log"
    )
    seen = adoption.follow_until(kube, made, _looked_at, seconds, overdue=lambda now: silent)
    if seen is None:
        raise ComponentError(f"TrainingJob {name} was deleted before the operator had looked at it; run the step again")
    stalled = adoption.condition(seen, "Stalled")
    return str(stalled["message"]) if stalled else ""


def _looked_at(job: Object) -> bool:
    return bool(job.get("status", {}).get("observedGeneration") == job["metadata"]["generation"])
