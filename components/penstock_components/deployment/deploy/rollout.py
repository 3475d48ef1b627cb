"""A model behind an endpoint: which way, then done."""

from __future__ import annotations

from typing import NamedTuple

from penstock_components.errors import ComponentError
from penstock_components.kube import Kube

from . import kserve, request, smoke, standard
from .request import KSERVE, KSERVE_KIND, Serving


class Outcome(NamedTuple):
    """Base URL in the cluster (the model is at <url>/v2/models/<model_name>/infer), KServe or Standard, and the revision."""

    endpoint_url: str
    mode: str
    revision: str


def deploy(wanted: Serving, ask: smoke.Request | None = None) -> Outcome:
    """Put a model into service; returns when it serves. A re-run with the same inputs changes nothing.

    `ask` replaces the way to a new pod for the smoke test; the default is the API server's proxy.

    Raises:
        ComponentError: wrong inputs, or the new model does not come up or answers wrongly; then what served before serves on.
    """
    request.check(wanted)
    kube = Kube(wanted.namespace)
    mode = wanted.mode
    known = mode != "Standard" and kube.knows(KSERVE, KSERVE_KIND)
    if mode == "KServe" and not known:
        raise ComponentError(f"mode is KServe, but the cluster has no {KSERVE_KIND} ({KSERVE}); install it, or use Standard")
    mode = "KServe" if known else "Standard"
    way = kserve.roll_out if mode == "KServe" else standard.roll_out
    return Outcome(way(kube, wanted, ask), mode, request.revision(wanted))
