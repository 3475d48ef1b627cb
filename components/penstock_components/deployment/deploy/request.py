"""What a deployment consists of, from its inputs. Pure.

The revision is a hash of everything the model server's pods are made from: the same inputs give the same names, so a re-run
finds what it made, and another model gets objects of its own beside those that serve.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from penstock_components import adoption, pods
from penstock_components.errors import several, wrong
from penstock_components.kube import Object

PORT: Final = 8080
ENDPOINT: Final = "penstock.dev/endpoint"
REVISION: Final = "penstock.dev/revision"
MANAGED: Final[Mapping[str, str]] = {"app.kubernetes.io/managed-by": "penstock-components"}
KSERVE: Final = "serving.kserve.io/v1beta1"
KSERVE_KIND: Final = "InferenceService"

# Room for "-<revision>-<replica set>-<pod>" in a host name.
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?")
_MODEL: Final = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Inputs of one deployment; the README beside this file explains each."""

    name: str
    model_uri: str
    image: str
    model_name: str = "model"
    mode: str = "Auto"
    replicas: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    service_account: str = ""
    placement: Mapping[str, Any] = field(default_factory=dict)
    # How it is done, no part of what serves:
    samples: Sequence[Any] = ()
    expected_classes: Sequence[str] = ()
    namespace: str = ""
    ready_minutes: float = 15.0
    stuck_seconds: float = 120.0


def check(wanted: Serving) -> None:
    """Refuse inputs that cannot work.

    Raises:
        ComponentError: names every input that is wrong.
    """
    problems = []
    if not _NAME.fullmatch(wanted.name):
        problems.append(f"name is {wanted.name!r}; it needs 1 to 30 lower-case letters, digits and hyphens, a letter first")
    if not _MODEL.fullmatch(wanted.model_name):
        problems.append(f"model_name is {wanted.model_name!r}; it stands in URLs: letters, digits, '-', '_' and '.'")
    problems += [f"{name} is empty" for name in ("model_uri", "image") if not getattr(wanted, name)]
    if wanted.mode not in {"Auto", "KServe", "Standard"}:
        problems.append(f"mode is {wanted.mode!r}; allowed are Auto, KServe and Standard")
    if wanted.replicas < 1:
        problems.append(f"replicas is {wanted.replicas}; it must be at least 1")
    if wanted.ready_minutes <= 0:
        problems.append(f"ready_minutes is {wanted.ready_minutes:g}; it must be above 0")
    if wanted.expected_classes and len(wanted.expected_classes) != len(wanted.samples):
        problems.append(f"expected_classes has {len(wanted.expected_classes)} entries for {len(wanted.samples)} samples")
    if problems:
        raise several(f"nothing was deployed, {wrong(len(problems), 'thing')}:", problems)


def revision(wanted: Serving) -> str:
    """Hash of what the pods are made from and how many there are."""
    return adoption.digest([_template(wanted, {}), wanted.replicas])[:10]


def labels(wanted: Serving) -> dict[str, str]:
    """Labels of everything of this revision."""
    return {**MANAGED, ENDPOINT: wanted.name, REVISION: revision(wanted)}


def selector(wanted: Serving) -> dict[str, str]:
    """Labels that only this revision's pods have."""
    return {ENDPOINT: wanted.name, REVISION: revision(wanted)}


def deployment(wanted: Serving) -> Object:
    """The Deployment of this revision."""
    spec = {
        "replicas": wanted.replicas,
        "selector": {"matchLabels": selector(wanted)},
        "progressDeadlineSeconds": _ready_seconds(wanted),
        "revisionHistoryLimit": 0,
        "template": _template(wanted, labels(wanted)),
    }
    metadata = {"name": f"{wanted.name}-{revision(wanted)}", "labels": labels(wanted)}
    return adoption.marked({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


def disruption_budget(wanted: Serving, owner: Object) -> Object | None:
    """One pod at a time is drained; None for a single pod, which a budget would make undrainable. Goes with its Deployment."""
    if wanted.replicas < 2:
        return None
    name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}
    metadata = {"name": name, "labels": labels(wanted), "ownerReferences": [reference]}
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(wanted)}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


def service(wanted: Serving) -> Object:
    """The Service, its selector on this revision."""
    spec = {"selector": selector(wanted), "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]}
    metadata = {"name": wanted.name, "labels": {**MANAGED, ENDPOINT: wanted.name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def inference_service(wanted: Serving) -> Object:
    """KServe's object: a custom predictor, as a plain Deployment without Knative."""
    template = _template(wanted, {}, container="kserve-container")
    metadata = {
        "name": wanted.name,
        "labels": labels(wanted),  # KServe copies them to the pods
        "annotations": {"serving.kserve.io/deploymentMode": "Standard"},
    }
    predictor = {"minReplicas": wanted.replicas, "maxReplicas": wanted.replicas, **template["spec"]}
    return adoption.marked({"apiVersion": KSERVE, "kind": KSERVE_KIND, "metadata": metadata, "spec": {"predictor": predictor}})


def _template(wanted: Serving, pod_labels: Mapping[str, str], container: str = "server") -> Object:
    server = {
        "name": container,
        "image": wanted.image,
        "env": pods.environment({**wanted.env, "MODEL_URI": wanted.model_uri, "MODEL_NAME": wanted.model_name}),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": adoption.plain(dict(wanted.resources))
        or {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        # A model is downloaded and warmed up before the server is live: the startup probe gives it the whole deadline.
        "startupProbe": _probe("live", 5, math.ceil(_ready_seconds(wanted) / 5)),
        "livenessProbe": _probe("live", 10, 3),
        "readinessProbe": _probe("ready", 5, 3),
    }
    return pods.template(server, pod_labels, wanted.service_account, adoption.plain(dict(wanted.placement)))


def _probe(path: str, seconds: int, failures: int) -> Object:
    get = {"path": f"/v2/health/{path}", "port": "http"}
    return {"httpGet": get, "periodSeconds": seconds, "failureThreshold": failures, "timeoutSeconds": 5}


def _ready_seconds(wanted: Serving) -> int:
    return max(1, round(wanted.ready_minutes * 60))
