"""Pods without a place: what the scheduler says of them, in a few words for a column, and which field of the job to change.

Never a stall: a node may be on its way (Karpenter, the cluster autoscaler), and a queueing scheduler takes its time without a
word. The scheduler counts nodes by cause: `0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated
taint(s). preemption: …`. Source: Filter and PreFilter plugins of kube-scheduler 1.36, ErrReason in each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed, PodView
from penstock_operator.trainingjob.policies.storage import volumes_of
from penstock_operator.trainingjob.verdict import Rules

# What follows the causes is about other pods: who could be evicted for this one.
_CAUSES_END = re.compile(r"\. (no new claims|preemption:|not found)")
_CLAIM = re.compile(r'persistentvolumeclaim "(?P<claim>[^"]+)" (?P<state>not found|is being deleted|bound to non-existent)')
_INSUFFICIENT = re.compile(r"Insufficient (?P<resource>[^\s,]+?)[.,]?(\s|$)")


@dataclass(frozen=True, slots=True)
class Unplaced:
    """`short`: for a column; `message`: the pod, the scheduler's words, and what to do about each cause that we know."""

    short: str
    message: str


def unplaced_worker(observed: Observed) -> Unplaced | None:
    """The first worker that the scheduler found no node for."""
    spec = observed.job.spec
    found = next((pod for pod in observed.ring.values() if pod.unschedulable), None)
    return _explain(found, spec) if found and spec else None


def unplaced_launcher(observed: Observed) -> Unplaced | None:
    """The launcher, when there is no node for it while a whole ring waits."""
    launcher, spec = observed.launcher, observed.job.spec
    if launcher is None or spec is None or not (launcher.alive and launcher.unschedulable):
        return None
    return _explain(launcher, spec)


def unseen(observed: Observed, rules: Rules, now: datetime) -> str:
    """A worker that its own scheduler has not looked at; empty where there is none. The default scheduler says at once what it
    lacks."""
    scheduler = own_scheduler(observed)
    for pod in observed.members:
        if scheduler and pod.unseen and pod.created and now - pod.created >= rules.startup_error:
            return (
                f"{pod.name}: no scheduler has looked at it since {pod.created:%H:%M:%S}; does "
                f"{scheduler!r} (spec.workers.template.spec.schedulerName) run in this cluster?"
            )
    return ""


def own_scheduler(observed: Observed) -> str:
    """The scheduler that the workers' template names."""
    return str(observed.job.spec.workers.template.spec.get("schedulerName") or "") if observed.job.spec else ""


def _explain(pod: PodView, spec: TrainingJobSpec) -> Unplaced:
    said = _CAUSES_END.split(pod.unschedulable)[0].strip(" .")
    causes = list(_causes(said, pod, spec))
    advice = "; ".join(each for _, each in causes) or f"see kubectl describe pod {pod.name}"
    return Unplaced(causes[0][0] if causes else Reason.UNSCHEDULABLE, f"{pod.name}: {said}; {advice}")


def _causes(said: str, pod: PodView, spec: TrainingJobSpec) -> Iterator[tuple[str, str]]:
    """Each known cause, the most telling first: a node that is full is nearer than one that was not asked for."""
    part = "launcher" if pod.role == names.ROLE_LAUNCHER else "workers"
    template = f"spec.{part}.template.spec"
    if found := _CLAIM.search(said):
        state = {"bound to non-existent": "has lost its volume"}.get(found["state"], found["state"])
        by = ", ".join(f"spec.volumes[{one.name}]" for one in spec.volumes if found["claim"] == _claim(one.source))
        yield f"claim {found['claim']} {state}", f"{by or template} names the claim: make it, and the job goes on by itself"
    if "unbound immediate PersistentVolumeClaims" in said:
        yield "claim not bound", "a claim of spec.volumes has no volume yet: see kubectl describe pvc"
    resources = spec.launcher.resources if part == "launcher" else spec.workers.resources
    for found in _INSUFFICIENT.finditer(said):
        resource = found["resource"]
        amount = resources.requests.get(resource, resources.limits.get(resource))
        asked = f"{amount} (spec.{part}.resources)" if amount is not None else f"some ({template})"
        yield f"Insufficient {resource}", f"of {resource} it asks for {asked}: add or free nodes, or ask for less"
    if "Too many pods" in said:
        yield "Too many pods", "the nodes take no more pods: add nodes"
    if "volume node affinity conflict" in said:
        yield "claim in another zone", "a claim of spec.volumes is in another zone than these nodes"
    if "untolerated taint" in said:
        yield "untolerated taint", f"{template}.tolerations has to name the taint"
    if "node affinity/selector" in said:
        yield "no such node", f"nodes are chosen by {', '.join(_selectors(spec, template))}"
    if "were unschedulable" in said:
        yield "nodes cordoned", "a cordoned node takes pods again after kubectl uncordon"


def _selectors(spec: TrainingJobSpec, template: str) -> Iterator[str]:
    workers = spec.workers
    if workers.instance_type:
        yield f"spec.workers.instanceType {workers.instance_type!r}"
    if workers.capacity_type:
        yield f"spec.workers.capacityType {workers.capacity_type.value!r}"
    if volumes := volumes_of(spec):
        yield f"the zone of LustreVolume {volumes[0]!r}"
    yield f"{template}.nodeSelector and .affinity"


def _claim(source: dict[str, object]) -> object:
    named = source.get("persistentVolumeClaim")
    return named.get("claimName") if isinstance(named, dict) else None
