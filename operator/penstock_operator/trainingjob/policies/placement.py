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
from penstock_operator.trainingjob.observe import Observed, PodView, shortened
from penstock_operator.trainingjob.policies.references import or_by_type, template_of
from penstock_operator.trainingjob.policies.storage import volumes_of
from penstock_operator.trainingjob.verdict import Rules

# What follows the causes is about other pods: who could be evicted for this one.
_CAUSES_END = re.compile(r"\. (no new claims|still not schedulable|preemption:|not found)")
_CLAIM = re.compile(r'persistentvolumeclaim "(?P<claim>[^"]+)" (?P<state>not found|is being deleted|bound to non-existent)')
_CLAIM_STATES = {
    "not found": ("not found", "make it, and the job goes on by itself"),
    "is being deleted": ("is being deleted", "make another when it is gone"),
    "bound to non-existent": ("has lost its volume", "delete it and make another"),
}
_INSUFFICIENT = re.compile(r"Insufficient (?P<resource>[^\s,]+?)[.,]?(\s|$)")
_COMMON = {"memory": 1, "cpu": 2}
# In the scheduler's words, for a column, and what to do. `{template}`: the pod spec of the job that asks for it.
_OTHERS = (
    ("Too many pods", "Too many pods", "the nodes take no more pods: add nodes"),
    ("volume node affinity conflict", "claim in another zone", "a claim of the pod is in another zone than these nodes"),
    ("no available volume zone", "claim in another zone", "a claim of the pod is in another zone than these nodes"),
    ("didn't find available persistent volumes", "claim not bound", "no volume fits a claim: see kubectl describe pvc"),
    ("unbound immediate PersistentVolumeClaims", "claim not bound", "a claim has no volume yet: see kubectl describe pvc"),
    ("didn't have free ports", "no free port", "{template} asks for a hostPort that is taken"),
    ("anti-affinity rules", "anti-affinity", "see {template}.affinity.podAntiAffinity, and that of pods on these nodes"),
    ("topology spread constraints", "topology spread", "see {template}.topologySpreadConstraints"),
    (
        "untolerated taint",
        "untolerated taint",
        "where these nodes are meant for it, {template}.tolerations has to name the taint",
    ),
    ("node affinity/selector", "no such node", "nodes are chosen by {selectors}"),
    ("were unschedulable", "nodes cordoned", "a cordoned node takes pods again after kubectl uncordon"),
)


@dataclass(frozen=True, slots=True)
class Unplaced:
    """`short`: for a column; `message`: the pod, the scheduler's words, and what to do about each cause that we know."""

    short: str
    message: str


def unplaced_worker(observed: Observed) -> Unplaced | None:
    """The first worker that the scheduler found no node for."""
    spec = observed.job.spec
    found = next((pod for pod in observed.members if pod.unschedulable), None)
    return _explain(found, spec) if found and spec else None


def unplaced_launcher(observed: Observed, rules: Rules, now: datetime) -> Unplaced | None:
    """The launcher, when there is no node for it; its ring waits meanwhile."""
    launcher, spec = observed.launcher, observed.job.spec
    if launcher is None or spec is None or not launcher.alive:
        return None
    if launcher.unschedulable:
        return _explain(launcher, spec)
    silent = _unseen(launcher, observed, rules, now)
    return Unplaced(Reason.UNSCHEDULABLE, silent) if silent else None


def unseen(observed: Observed, rules: Rules, now: datetime) -> str:
    """A worker that its own scheduler has not looked at; empty where there is none. The default scheduler says at once what it
    lacks."""
    return next(filter(None, (_unseen(pod, observed, rules, now) for pod in observed.members)), "")


def gated(observed: Observed) -> str:
    """A worker that is not to be scheduled yet; empty where there is none."""
    pod = next((pod for pod in observed.members if pod.gated), None)
    gates = "spec.workers.template.spec.schedulingGates, or a queue's"
    return f"{pod.name} waits until its scheduling gates are removed ({gates})" if pod else ""


def own_scheduler(observed: Observed, role: str) -> str:
    """The scheduler that the template of this role names."""
    spec = observed.job.spec
    if spec is None:
        return ""
    template = spec.launcher.template if role == names.ROLE_LAUNCHER else spec.workers.template
    return str(template.spec.get("schedulerName") or "")


def _unseen(pod: PodView, observed: Observed, rules: Rules, now: datetime) -> str:
    scheduler = own_scheduler(observed, pod.role)
    if not (scheduler and pod.unseen and pod.created and now - pod.created >= rules.startup_error):
        return ""
    return (
        f"{pod.name}: no scheduler has looked at it since {pod.created:%H:%M:%S}; does "
        f"{scheduler!r} ({template_of(pod)}.schedulerName) run in this cluster?"
    )


def _explain(pod: PodView, spec: TrainingJobSpec) -> Unplaced:
    said = _CAUSES_END.split(pod.unschedulable)[0].strip(" .")
    causes = list(_causes(said, pod, spec))
    advice = "; ".join(dict.fromkeys(each for _, each in causes)) or f"see kubectl describe pod {pod.name}"
    return Unplaced(causes[0][0] if causes else _first_cause(said), f"{pod.name}: {shortened(said, 400)}; {advice}")


def _first_cause(said: str) -> str:
    """Of a cause that nobody foresaw the scheduler's words, without the number of nodes."""
    first = said.partition(": ")[2].split(", ")[0]
    return shortened(re.sub(r"^\d+ (node\(s\) )?", "", first), 80) or Reason.UNSCHEDULABLE


def _causes(said: str, pod: PodView, spec: TrainingJobSpec) -> Iterator[tuple[str, str]]:
    """Each known cause, in an order that does not change with the numbers of nodes: what only the job can mend, then what the
    nodes have too little of (the rarest resource first), then nodes that were passed over."""
    if found := _CLAIM.search(said):
        yield _claim(found["claim"], found["state"], pod, spec)
    lacking = {found["resource"] for found in _INSUFFICIENT.finditer(said)}
    for resource in sorted(lacking, key=lambda name: (_COMMON.get(name, 0), name)):
        asked = _asked(resource, pod, spec)
        yield f"Insufficient {resource}", f"of {resource} it asks for {asked}: add or free nodes, or ask for less"
    for words, short, advice in _OTHERS:
        if words in said:
            yield short, advice.format(template=template_of(pod), selectors=", ".join(_selectors(pod, spec)))


def _claim(name: str, state: str, pod: PodView, spec: TrainingJobSpec) -> tuple[str, str]:
    short, remedy = _CLAIM_STATES[state]
    if name in volumes_of(spec):
        return f"claim {name} {short}", f"it is made for LustreVolume {name!r}: see kubectl describe lustrevolume {name}"
    places = [
        f"spec.volumes[{one.name}]" for one in spec.volumes if (one.persistent_volume_claim or {}).get("claimName") == name
    ]
    return f"claim {name} {short}", f"{', '.join(places) or template_of(pod)} names the claim: {remedy}"


def _asked(resource: str, pod: PodView, spec: TrainingJobSpec) -> str:
    """How much of it, and where that is written. What instanceType fills in is in `spec` by now."""
    launcher = pod.role == names.ROLE_LAUNCHER
    resources = spec.launcher.resources if launcher else spec.workers.resources
    amount = resources.requests.get(resource, resources.limits.get(resource))
    if amount is None:
        return f"some ({template_of(pod)})"
    if launcher:
        return f"{amount} (spec.launcher.resources)"
    return f"{amount} (spec.workers.resources{or_by_type(spec)})"


def _selectors(pod: PodView, spec: TrainingJobSpec) -> Iterator[str]:
    workers = spec.workers
    if pod.role == names.ROLE_WORKER or spec.launcher.colocate:
        if workers.instance_type:
            yield f"spec.workers.instanceType {workers.instance_type!r}"
        if workers.capacity_type:
            yield f"spec.workers.capacityType {workers.capacity_type.value!r}"
    if volumes := volumes_of(spec):
        yield f"the zone of LustreVolume {volumes[0]!r}"
    yield f"{template_of(pod)}.nodeSelector and .affinity"
