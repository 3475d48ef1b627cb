"""Blue/green with a Deployment and a Service: the new pods are made, waited for and tried before any request reaches them.

Only then the Service's selector moves, and only when its endpoints are the new pods the old Deployment goes. Whatever fails
before the move takes the new Deployment with it and leaves what served. Every decision rests on what the cluster holds: a step
killed anywhere is finished, or undone, by its retry.
"""

from __future__ import annotations

import logging
from functools import partial

from penstock_components import adoption, pods, waiting
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object, Refused
from penstock_components.logs import read_tail

from . import request, smoke
from .request import ENDPOINT, REVISION, Serving

log = logging.getLogger(__name__)

SWITCH_SECONDS = 120.0


def roll_out(kube: Kube, wanted: Serving, ask: smoke.Request | None, every: float = 2.0) -> str:
    """Make this revision serve; returns the endpoint's URL. `ask` replaces the way to a pod for the smoke test.

    Raises:
        ComponentError: the pods do not become ready, the smoke test fails, or a Service or Deployment of that name is not ours.
    """
    wish = request.deployment(wanted)
    try:
        with waiting.stop_on_signal(lambda: undo(kube, wanted)):
            before = _service(kube, wanted)
            made = adoption.start(kube, wish, failed=lambda found: not _serves(before, wanted) and _given_up(found) != "")
            budget = request.disruption_budget(wanted, made)
            if budget:
                kube.apply(budget)
            new = _wait_ready(kube, wanted, wish, every)
            if not _serves(before, wanted):
                if wanted.samples:
                    there = ask or partial(kube.proxy, new[0]["metadata"]["name"], request.PORT)
                    smoke.try_out(there, wanted.model_name, wanted.samples, wanted.expected_classes)
                _switch(kube, wanted, before)
            _wait_switched(kube, wanted, every)
            _delete_others(kube, wanted)
    except Exception:
        undo(kube, wanted)
        raise
    return f"http://{wanted.name}.{kube.namespace}.svc.cluster.local"


def undo(kube: Kube, wanted: Serving) -> None:
    """Delete this revision's Deployment, unless the Service is on it: then it serves, and stays."""
    found = kube.get("v1", "Service", wanted.name)
    if not _serves(found, wanted):
        adoption.delete(kube, request.deployment(wanted))


def _service(kube: Kube, wanted: Serving) -> Object | None:
    found = kube.get("v1", "Service", wanted.name)
    if found is not None and found["metadata"].get("labels", {}).get(ENDPOINT) != wanted.name:
        raise ComponentError(
            f"Service {kube.namespace}/{wanted.name} exists and was not made by this component (label {ENDPOINT}); "
            "choose another name, or delete it"
        )
    return found


def _serves(service: Object | None, wanted: Serving) -> bool:
    return service is not None and service["spec"].get("selector") == request.selector(wanted)


def _given_up(deployment: Object) -> str:
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "Progressing" and condition["status"] == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    return ""


def _wait_ready(kube: Kube, wanted: Serving, wish: Object, every: float) -> list[Object]:
    """The new pods, all of them ready."""
    name, patience = wish["metadata"]["name"], pods.Patience(wanted.stuck_seconds)

    def describe() -> tuple[Object, list[Object]]:
        found = kube.get("apps/v1", "Deployment", name)
        if found is None:
            raise ComponentError(f"Deployment {name} was deleted while it started")
        its = kube.select("v1", "Pod", request.selector(wanted))
        patience.check(its)
        if _given_up(found):
            raise ComponentError(f"Deployment {name}: {_given_up(found)}{_held(its)}")
        return found, its

    try:
        _, its = waiting.poll(
            describe,
            until=lambda state: _ready(state[0], wanted.replicas),
            every=every,
            deadline=wanted.ready_minutes * 60,
            describe_state=lambda state: f"{name}: {_counts(state[0], wanted.replicas)}{_held(state[1])}",
        )
    except pods.Stuck as error:
        tail = read_tail(kube, error.pod, previous=True, lines=20)
        lines = "".join(f"\n  {line}" for line in tail)
        raise ComponentError(f"{name} does not start: {error}" + (f"; its log ends with:{lines}" if lines else "")) from error
    return [pod for pod in its if pods.ready(pod)]


def _ready(deployment: Object, replicas: int) -> bool:
    status = deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return seen and all(status.get(key, 0) == replicas for key in ("updatedReplicas", "readyReplicas", "replicas"))


def _counts(deployment: Object, replicas: int) -> str:
    return f"{deployment.get('status', {}).get('readyReplicas', 0)}/{replicas} pods ready"


def _held(its: list[Object]) -> str:
    words = next((words for pod in its if (words := pods.trouble(pod) or pods.unplaced(pod))), "")
    return f"; {words}" if words else ""


def _switch(kube: Kube, wanted: Serving, before: Object | None) -> None:
    body = request.service(wanted)
    try:
        if before is None:
            kube.create(body)
        else:
            # At the version read before: another deployment that ran meanwhile is not undone by this one.
            body["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            kube.apply(body)
    except Refused as error:
        if error.status == 409:
            raise ComponentError(f"Service {wanted.name} was changed by someone else meanwhile; run the step again") from error
        raise
    log.info("Service %s/%s is on revision %s", kube.namespace, wanted.name, request.revision(wanted))


def _wait_switched(kube: Kube, wanted: Serving, every: float) -> None:
    """Until the Service's endpoints are the new pods: an old one deleted before would still be sent requests."""

    def describe() -> tuple[set[str], set[str]]:
        slices = kube.select("discovery.k8s.io/v1", "EndpointSlice", {"kubernetes.io/service-name": wanted.name})
        ends = [end for each in slices for end in each.get("endpoints") or [] if end.get("conditions", {}).get("ready", True)]
        reached = {end.get("targetRef", {}).get("name", "") for end in ends}
        its = kube.select("v1", "Pod", request.selector(wanted))
        return reached, {pod["metadata"]["name"] for pod in its}

    waiting.poll(
        describe,
        until=lambda state: bool(state[0]) and state[0] <= state[1],
        every=every / 2,
        deadline=SWITCH_SECONDS,
        describe_state=lambda state: f"{wanted.name}: {len(state[0] & state[1])} new pods, {len(state[0] - state[1])} old ones",
    )


def _delete_others(kube: Kube, wanted: Serving) -> None:
    for each in kube.select("apps/v1", "Deployment", {ENDPOINT: wanted.name}):
        if each["metadata"]["labels"].get(REVISION) != request.revision(wanted):
            kube.delete("apps/v1", "Deployment", each["metadata"]["name"], each["metadata"]["uid"])
            log.info("old Deployment %s deleted", each["metadata"]["name"])
