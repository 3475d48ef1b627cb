"""The same with KServe: one InferenceService, changed in place; KServe keeps the old pods until new ones are ready.

What it was before stands in an annotation while a change is under way, so that a failure, or the retry of a step that was
killed, can put it back. KServe's Ready may still be the old spec's when it is read first; so a ready pod of this revision must
be there too (KServe copies the labels of the object to its pods).
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Final

from penstock_components import adoption, pods, waiting
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object, Refused
from penstock_components.logs import read_tail

from . import request, smoke
from .request import ENDPOINT, KSERVE, KSERVE_KIND, REVISION, Serving

log = logging.getLogger(__name__)

PREVIOUS: Final = "penstock.dev/previous"
_POD_LABEL: Final = "serving.kserve.io/inferenceservice"


def roll_out(kube: Kube, wanted: Serving, ask: smoke.Request | None, every: float = 2.0) -> str:
    """Make this revision serve; returns the URL KServe gives. `ask` replaces the way to a pod for the smoke test.

    Raises:
        ComponentError: it does not become Ready, the smoke test fails, or an InferenceService of that name is not ours.
    """
    wish = request.inference_service(wanted)
    try:
        with waiting.stop_on_signal(lambda: undo(kube, wanted)):
            changed = _put_again(kube, wish)
            found, new = _wait_ready(kube, wanted, every)
            if changed and wanted.samples:
                there = ask or partial(kube.proxy, new[0]["metadata"]["name"], request.PORT)
                smoke.try_out(there, wanted.model_name, wanted.samples, wanted.expected_classes)
            if changed:
                kube.patch(KSERVE, KSERVE_KIND, wanted.name, {"metadata": {"annotations": {PREVIOUS: None}}})
    except Exception:
        undo(kube, wanted)
        raise
    status = found.get("status", {})
    host = f"{wanted.name}-predictor.{kube.namespace}.svc.cluster.local"
    return str(status.get("address", {}).get("url") or status.get("url") or f"http://{host}")


def undo(kube: Kube, wanted: Serving) -> None:
    """Put back what was there before this change; with nothing before, delete it. No change under way: nothing to do."""
    found = kube.get(KSERVE, KSERVE_KIND, wanted.name)
    if found is None or PREVIOUS not in found["metadata"].get("annotations", {}):
        return
    if found["metadata"]["labels"].get(REVISION) != request.revision(wanted):
        return
    previous = json.loads(found["metadata"]["annotations"][PREVIOUS])
    if previous is None:
        kube.delete(KSERVE, KSERVE_KIND, wanted.name, found["metadata"]["uid"])
        log.warning("InferenceService %s deleted", wanted.name)
        return
    annotations = {key: value for key, value in found["metadata"]["annotations"].items() if key != PREVIOUS}
    found["metadata"]["annotations"] = annotations | {adoption.INPUTS: previous["inputs"]}
    found["metadata"]["labels"] |= {REVISION: previous["revision"]}
    kube.replace({**found, "spec": previous["spec"]})
    log.warning("InferenceService %s is back on revision %s", wanted.name, previous["revision"])


def _put_again(kube: Kube, wish: Object) -> bool:
    """`_put`, once more where KServe wrote the object in between."""
    for _ in range(5):
        try:
            return _put(kube, wish)
        except Refused as error:
            if error.status != 409:
                raise
    raise ComponentError(f"InferenceService {wish['metadata']['name']} is written by others all the time; run the step again")


def _put(kube: Kube, wish: Object) -> bool:
    """Create or change the object; False if it is so already and was found good."""
    name = wish["metadata"]["name"]
    found = kube.get(KSERVE, KSERVE_KIND, name)
    if found is None:
        kube.create(_with_previous(wish, None))
        log.info("InferenceService %s/%s created", kube.namespace, name)
        return True
    metadata = found["metadata"]
    annotations, labels = metadata.get("annotations", {}), metadata.get("labels", {})
    if labels.get(ENDPOINT) != name:
        raise ComponentError(
            f"InferenceService {kube.namespace}/{name} exists and was not made by this component (label {ENDPOINT}); "
            "choose another name, or delete it"
        )
    if adoption.same(found, wish):
        return PREVIOUS in annotations
    # A step that was killed in the middle of another change: what served before that is still what to go back to.
    before = {"spec": found["spec"], "inputs": annotations.get(adoption.INPUTS), "revision": labels.get(REVISION)}
    stored = json.loads(annotations[PREVIOUS]) if PREVIOUS in annotations else before
    body = _with_previous(wish, stored)
    body["metadata"] = {
        **metadata,
        "labels": labels | body["metadata"]["labels"],
        "annotations": annotations | body["metadata"]["annotations"],
    }
    kube.replace(body)
    log.info("InferenceService %s/%s changed to revision %s", kube.namespace, name, body["metadata"]["labels"][REVISION])
    return True


def _with_previous(wish: Object, previous: Object | None) -> Object:
    annotations = {**wish["metadata"]["annotations"], PREVIOUS: json.dumps(previous, sort_keys=True)}
    return {**wish, "metadata": {**wish["metadata"], "annotations": annotations}}


def _wait_ready(kube: Kube, wanted: Serving, every: float) -> tuple[Object, list[Object]]:
    """The object once it is Ready, and its ready pods."""
    name, patience = wanted.name, pods.Patience(wanted.stuck_seconds)

    def describe() -> tuple[Object, list[Object]]:
        found = kube.get(KSERVE, KSERVE_KIND, name)
        if found is None:
            raise ComponentError(f"InferenceService {name} was deleted while it started")
        its = kube.select("v1", "Pod", {_POD_LABEL: name, REVISION: request.revision(wanted)})
        patience.check(its)
        return found, its

    try:
        found, its = waiting.poll(
            describe,
            until=lambda state: _ready(state[0]) and any(pods.ready(pod) for pod in state[1]),
            every=every,
            deadline=wanted.ready_minutes * 60,
            describe_state=_line,
        )
    except pods.Stuck as error:
        lines = "".join(f"\n  {line}" for line in read_tail(kube, error.pod, previous=True, lines=20))
        raise ComponentError(f"{name} does not start: {error}" + (f"; its log ends with:{lines}" if lines else "")) from error
    return found, [pod for pod in its if pods.ready(pod)]


def _ready(found: Object) -> bool:
    generation = found["metadata"]["generation"]
    observed = found.get("status", {}).get("observedGeneration", generation)
    return observed >= generation and adoption.condition(found, "Ready") is not None


def _line(state: tuple[Object, list[Object]]) -> str:
    found, its = state
    bad = [each for each in found.get("status", {}).get("conditions", []) if each["status"] != "True"]
    words = [f"{each['type']} {each['status']}: {each.get('message') or each.get('reason', '')}".rstrip(": ") for each in bad]
    words += [held for pod in its if (held := pods.trouble(pod) or pods.unplaced(pod))]
    ready = sum(pods.ready(pod) for pod in its)
    return f"InferenceService {found['metadata']['name']}: {ready} new pods ready" + "".join(f"; {each}" for each in words[:3])
