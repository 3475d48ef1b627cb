"""The TrainingJob a step asks for, from its inputs. Pure.

Only what was given is written, so that the operator's defaults hold and an older operator is not handed fields it does not
know. Fields without an input of their own (launcher, mpi, the workers' template, ...) are reached with `spec`, the whole spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from penstock_components import adoption, names, s3
from penstock_components.errors import several, wrong
from penstock_components.kube import Object

API_VERSION: Final = "penstock.dev/v1alpha1"
KIND: Final = "TrainingJob"
# The operator's limit: pods are called <name>-worker-<index>-a<attempt>.
LONGEST_NAME: Final = 46
WEEK: Final = 604_800


@dataclass(frozen=True, kw_only=True)
class Training:
    """Inputs of one training; the README beside this file explains each."""

    model_uri: str
    image: str = ""
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    slots: int = 0
    instance_type: str = ""
    capacity_type: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    volumes: Sequence[Mapping[str, Any]] = ()
    run_policy: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    # How it is run, no part of the spec:
    job_name: str = ""
    run_id: str = ""
    namespace: str = ""
    on_cancel: str = "Delete"
    reuse_model: bool = False
    deadline_hours: float = 72.0
    stalled_minutes: float = 60.0
    model_minutes: float = 30.0
    log_lines: int = 20_000


_SPEC_INPUTS: Final = (
    "image",
    "command",
    "env",
    "workers",
    "slots",
    "instance_type",
    "capacity_type",
    "resources",
    "backend",
    "volumes",
    "run_policy",
)


def check(wanted: Training) -> None:
    """Refuse inputs that cannot work.

    Raises:
        ComponentError: names every input that is wrong.
    """
    problems = []
    given = [each.name for each in fields(Training) if each.name in _SPEC_INPUTS and _given(wanted, each.name)]
    if wanted.spec and given:
        problems.append(f"spec is the whole spec; put these into it instead of beside it: {', '.join(given)}")
    if not wanted.spec:
        empty = [name for name in ("image", "command") if not getattr(wanted, name)]
        problems += [f"{name} is empty; give it, or the whole spec" for name in empty]
    if wanted.on_cancel not in {"Delete", "Suspend"}:
        problems.append(f"on_cancel is {wanted.on_cancel!r}; allowed are Delete and Suspend")
    for name in ("deadline_hours", "stalled_minutes", "model_minutes"):
        if getattr(wanted, name) <= 0:
            problems.append(f"{name} is {getattr(wanted, name):g}; it must be above 0")
    if problems:
        raise several(f"no training was started, {wrong(len(problems), 'thing')}:", problems)
    s3.parse(wanted.model_uri)


def build(wanted: Training) -> Object:
    """The TrainingJob. Its name is the one given, else made from the run and the spec: a retry of the step finds it."""
    spec = adoption.plain(dict(wanted.spec)) or _spec(wanted)
    name = wanted.job_name or names.deterministic("train", wanted.run_id, spec, limit=LONGEST_NAME)
    metadata: Object = {"name": name, "labels": {"app.kubernetes.io/managed-by": "penstock-components"}}
    if wanted.run_id:
        metadata["annotations"] = {"penstock.dev/run-id": wanted.run_id}
    return adoption.marked({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})


def _spec(wanted: Training) -> Object:
    workers: Object = {"replicas": wanted.workers}
    workers |= {"slots": wanted.slots} if wanted.slots else {}
    workers |= {"instanceType": wanted.instance_type} if wanted.instance_type else {}
    workers |= {"capacityType": wanted.capacity_type} if wanted.capacity_type else {}
    workers |= {"resources": adoption.plain(dict(wanted.resources))} if wanted.resources else {}
    spec: Object = {"image": wanted.image, "command": list(wanted.command), "workers": workers}
    spec |= {"env": [{"name": key, "value": str(value)} for key, value in sorted(wanted.env.items())]} if wanted.env else {}
    spec |= {"backend": wanted.backend} if wanted.backend else {}
    spec |= {"volumes": adoption.plain([dict(each) for each in wanted.volumes])} if wanted.volumes else {}
    # Long enough to look at, and a pipeline that runs every night does not fill the cluster with finished jobs.
    spec["runPolicy"] = {"ttlSecondsAfterFinished": WEEK, **adoption.plain(dict(wanted.run_policy))}
    return spec


def _given(wanted: Training, name: str) -> bool:
    default = Training.__dataclass_fields__[name].default
    value = getattr(wanted, name)
    return bool(value) and value != default
