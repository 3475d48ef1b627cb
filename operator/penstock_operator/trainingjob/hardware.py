"""From an instance type to what a worker asks for: `fit` fills in what the user left open, or says what does not fit.

The result is a spec with resources and slots filled in, and pod-spec layers that lie under the user's template. A worker gets
its devices' share of the node: all of it by default, half of CPU, memory and EFA when it asks for 4 of 8 GPUs. Whatever the
user set wins, name by name: a resource in requests or limits, a variable in env, envFrom or the image, a field of the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from penstock_operator import names
from penstock_operator.api.trainingjob import Backend, CapacityType, MPIImplementation, TrainingJobSpec
from penstock_operator.cloud.catalogue import (
    DAEMONS_CPU_MILLIS,
    DAEMONS_MEMORY_MIB,
    EFA,
    GPU,
    HUGE_PAGES,
    NEURON,
    NEURON_CORE,
    POD_HUGE_PAGES_MIB,
    Catalogue,
    InstanceType,
)
from penstock_operator.names import Reason
from penstock_operator.trainingjob.children.merge import merge
from penstock_operator.trainingjob.quantity import parse, text
from penstock_operator.trainingjob.verdict import Stall

_MIB = 2**20

# One field, two provisioners with keys and spellings of their own.
_KARPENTER, _NODE_GROUP = "karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType"
_NODE_GROUP_VALUE = {
    CapacityType.SPOT: "SPOT",
    CapacityType.ON_DEMAND: "ON_DEMAND",
    CapacityType.RESERVED: "CAPACITY_BLOCK",
}


@dataclass(frozen=True, slots=True)
class Fitted:
    """`spec` with everything filled in; `layers`: by role, a pod spec to merge under the user's template."""

    spec: TrainingJobSpec
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def fit(spec: TrainingJobSpec, catalogue: Catalogue) -> Fitted | Stall:
    """Fill in what instanceType and capacityType give; a Stall names fields and numbers of what cannot be."""
    workers = spec.workers
    if workers.instance_type is None and workers.capacity_type is None:
        return Fitted(spec)
    layers: dict[str, dict[str, Any]] = {names.ROLE_WORKER: {}, names.ROLE_LAUNCHER: {}}
    if workers.instance_type is not None:
        kind = catalogue.types.get(workers.instance_type)
        if kind is None:
            return Stall(Reason.UNKNOWN_INSTANCE_TYPE, _unknown(workers.instance_type, catalogue))
        node = _Node(spec, kind, catalogue.huge_pages)
        if problems := list(node.problems()):
            return Stall(Reason.DOES_NOT_FIT, "; ".join(problems))
        spec, layers = node.filled(), node.layers()
    return Fitted(*_placed(spec, layers, workers.capacity_type))


def _unknown(name: str, catalogue: Catalogue) -> str:
    found = f"spec.workers.instanceType: found {name!r}, "
    if name in catalogue.retired:
        return f"{found}which AWS has retired; use {catalogue.retired[name]}"
    near = ", ".join(catalogue.nearest(name))
    return (
        f"{found}which the operator does not know"
        + (f"; the nearest are {near}" if near else "")
        + "; a type is added with the chart's value config.instanceTypes (docs/instances.md)"
    )


class _Node:
    """One worker against one instance type: what it asks for, what it is given, what is too much."""

    def __init__(self, spec: TrainingJobSpec, kind: InstanceType, huge_pages: bool) -> None:
        self.spec, self.kind, self._huge_pages = spec, kind, huge_pages
        template = spec.workers.template.spec
        containers = _mappings(template.get("containers"))
        worker = next((one for one in containers if one.get("name") == names.ROLE_WORKER), {})
        # The template has the last word on resources too.
        templated = _mapping(worker.get("resources"))
        own = merge(spec.workers.resources.model_dump(), templated)
        self._templated = _amounts(templated).keys()
        self.asked = _amounts(own)
        self._limit = parse(_mapping(own.get("limits")).get("memory", "")) or self.asked.get("memory")
        # Side by side with the worker: sidecars, and init containers that stay.
        stay = [one for one in _mappings(template.get("initContainers")) if one.get("restartPolicy") == "Always"]
        beside = [_amounts(_mapping(one.get("resources"))) for one in (*containers, *stay) if one is not worker]
        self.beside = {name: sum((one.get(name, Fraction(0)) for one in beside), Fraction(0)) for name in ("cpu", "memory")}
        named = [name for name in kind.devices if name in self.asked]  # perhaps with 0, beside another one
        self.device = next((name for name in named if self.asked[name]), next(iter(named or kind.devices), ""))
        if any(name.startswith("nvidia.com/mig-") for name in self.asked) and GPU not in self.asked:
            self.device = ""  # slices of a GPU instead of whole ones: how many, and how much of the node, is the user's to say
        total = kind.devices.get(self.device, 0)
        self.devices = self.asked.get(self.device, Fraction(total))
        self.share = self.devices / total if total and 0 < self.devices < total else Fraction(1)

    @property
    def ranks(self) -> int:
        """Ranks that the worker's devices take; 0: it has none, and any number of ranks will do."""
        return int(self.kind.ranks * self.devices / self.kind.devices[self.device]) if self.device else 0

    def problems(self) -> Iterator[str]:
        kind, asked = self.kind, self.asked
        has: dict[str, int] = {GPU: 0, NEURON: 0, NEURON_CORE: 0, **kind.devices, EFA: kind.efa}
        for name, count in has.items():
            if (amount := asked.get(name, Fraction(0))) > count:
                others = ", ".join(f"{other} {one}" for one, other in kind.devices.items()) if not count else ""
                instead = f" (it has {others})" if others and name != EFA else ""
                remedy = (
                    f"; ask for at most {count} a worker and for more workers, or for another instanceType" if count else ""
                )
                yield f"{self._place(name)}: {text(amount, name)} asked for, a {kind.name} has {count}{instead}{remedy}"
        if self.device == NEURON and kind.neuron_counts and self.devices not in (0, *kind.neuron_counts):
            counts = ", ".join(map(str, kind.neuron_counts))
            yield f"{self._place(NEURON)}: {text(self.devices, NEURON)} asked for, a {kind.name} gives {counts} to a pod"
        for name, most in (("cpu", Fraction(kind.cpu_millis, 1000)), ("memory", Fraction(kind.memory_mib * _MIB))):
            amount = asked.get(name, Fraction(0)) + self.beside[name]
            if amount > most:
                beside = f", {text(self.beside[name], name)} of it by other containers" if self.beside[name] else ""
                for_pods = f"a {kind.name} has {text(most, name)} for pods"
                yield f"{self._place(name)}: {text(amount, name)} asked for{beside}, {for_pods}"
            elif name not in asked and self._rest(name) <= 0:
                left = f"the other containers ask for {text(self.beside[name], name)} and leave the worker nothing"
                yield f"spec.workers.template: {left} of the {text(most, name)} of {name} that a {kind.name} has for pods"
        slots, ranks = self.spec.workers.slots, self.ranks
        if slots and ranks and (slots > ranks or ranks % slots):
            what = "are more than" if slots > ranks else "do not divide"
            units = "GPUs" if self.device == GPU else "neuron cores"
            yield f"spec.workers.slots: {slots} ranks {what} the {ranks} {units} of a worker on {kind.name}"

    def _place(self, name: str) -> str:
        if name in self._templated:
            return f"spec.workers.template[{name}]"
        return f"spec.workers.resources.{'requests' if name in self.spec.workers.resources.requests else 'limits'}[{name}]"

    def _rest(self, name: str) -> Fraction:
        """What the worker gets of CPU (cores) or memory (bytes): its share of what DaemonSets and huge pages leave."""
        if name == "cpu":
            whole = Fraction(self.kind.cpu_millis - DAEMONS_CPU_MILLIS, 1000)
        else:
            whole = Fraction((self.kind.memory_mib - DAEMONS_MEMORY_MIB - self.kind.huge_pages_mib) * _MIB)
        return whole * self.share - self.beside[name]

    def given(self) -> dict[str, Fraction]:
        """Everything the worker has: what was asked for, and what was left open filled in."""
        efa = self.asked.get(EFA, Fraction(int(self.kind.efa * self.share)))
        pages = min(POD_HUGE_PAGES_MIB, int(2 * POD_HUGE_PAGES_MIB * self.share) // 2 * 2) if efa and self._huge_pages else 0
        cores = self._rest("cpu")
        filled = {
            # Whole cores, as limits: to such pods alone does the kubelet's static CPU manager give exclusive cores.
            "cpu": Fraction(int(cores)) if cores >= 1 else Fraction(int(cores * 1000), 1000),
            "memory": Fraction(int(self._rest("memory") / _MIB) * _MIB),
            EFA: efa,
            HUGE_PAGES: Fraction(pages * _MIB),
        }
        if self.device:
            filled[self.device] = self.devices
        return {**filled, **self.asked}

    def filled(self) -> TrainingJobSpec:
        """The spec with resources and slots. Devices come in limits, which Kubernetes takes as requests too."""
        resources, given = self.spec.workers.resources, self.given()
        own = {**resources.requests, **resources.limits}
        limits = {**resources.limits, **{name: _written(name, given[name]) for name in given if name not in self.asked}}
        for name in (self.device, EFA, HUGE_PAGES):
            if name in own and name not in resources.limits:
                limits[name] = own[name]  # the API server wants the limit of what cannot be overcommitted
        nothing = {name for name in (self.device, EFA, HUGE_PAGES) if not given.get(name)}
        kept = {key: value for key, value in resources.requests.items() if key not in nothing}
        limits = {key: value for key, value in limits.items() if key not in nothing}
        workers = self.spec.workers.model_copy(
            update={
                "slots": self.spec.workers.slots or self.ranks or 1,
                "resources": resources.model_copy(update={"requests": kept, "limits": limits}),
            }
        )
        return self.spec.model_copy(update={"workers": workers})

    def layers(self) -> dict[str, dict[str, Any]]:
        """Node selector, tolerations, /dev/shm and environment, by role."""
        kind, given = self.kind, self.given()
        worker: dict[str, Any] = {
            "nodeSelector": {"node.kubernetes.io/instance-type": kind.name},
            "tolerations": [
                {"key": key, "operator": "Exists", "effect": "NoSchedule"}
                for key in (GPU, NEURON, EFA)
                if key in kind.devices or (key == EFA and kind.efa)
            ],
            "containers": [
                {"name": names.ROLE_WORKER, "env": [{"name": "PENSTOCK_RANK_DEFAULTS", "value": self._rank_defaults(given)}]}
            ],
        }
        memory = self._limit or given.get("memory")
        if memory:
            # It counts as the worker's memory. Half, as Linux has it; without a size the kubelet would take all of the limit.
            shm = {"medium": "Memory", "sizeLimit": f"{max(1, int(memory / 2 / _MIB))}Mi"}
            worker["volumes"] = [{"name": "penstock-shm", "emptyDir": shm}]
        own = {one.name for one in self.spec.env}
        launcher = [{"name": key, "value": value} for key, value in self._mpirun(given).items() if key not in own]
        return {
            names.ROLE_WORKER: worker,
            names.ROLE_LAUNCHER: {"containers": [{"name": names.ROLE_LAUNCHER, "env": launcher}]} if launcher else {},
        }

    def _rank_defaults(self, given: Mapping[str, Fraction]) -> str:
        """NAME=value lines for ranks that have no such variable: rank-shell also sees what envFrom and the image set."""
        built = {"OMP_NUM_THREADS": str(max(1, int(given["cpu"]) // (self.spec.workers.slots or self.ranks or 1)))}
        if self.kind.gpus and (given.get(GPU) or not self.device):
            # The pod network's interface; on the node's own network the name is the instance's.
            built |= {} if self.spec.workers.template.spec.get("hostNetwork") else {"NCCL_SOCKET_IFNAME": "eth0"}
            built["NCCL_DEBUG"] = "WARN"
        built |= {key: value for key, value in self.kind.env.items() if given.get(EFA) or not key.startswith("FI_")}
        if given.get(EFA) and not given.get(HUGE_PAGES):
            # libfabric would map huge pages that the container may not touch.
            built["FI_EFA_USE_HUGE_PAGE"] = "0"
        return "".join(f"{key}={value}\n" for key, value in built.items())

    def _mpirun(self, given: Mapping[str, Fraction]) -> dict[str, str]:
        """EFA belongs to NCCL: MPI's own messages go by TCP. Source: EKS user guide's NCCL test. The pod has lo and eth0 only,
        so nothing need be excluded; Horovod sends little by MPI, plain MPI keeps shared memory inside a worker."""
        if not given.get(EFA) or self.spec.mpi.implementation is not MPIImplementation.OPEN_MPI:
            return {}
        btl = {"OMPI_MCA_btl": "tcp,self"} if self.spec.backend is Backend.HOROVOD else {}
        return {"OMPI_MCA_pml": "^cm,ucx", **btl}


def _amounts(resources: Mapping[str, Any]) -> dict[str, Fraction]:
    """What the scheduler counts: requests, and limits where there is no request."""
    asked = {**_mapping(resources.get("limits")), **_mapping(resources.get("requests"))}
    return {name: amount for name, value in asked.items() if (amount := parse(value)) is not None}


def _mapping(value: Any) -> Mapping[str, Any]:
    """The template is open: what has the wrong form is left for the API server to refuse."""
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _written(name: str, amount: Fraction) -> str:
    if name in ("memory", HUGE_PAGES):
        return f"{int(amount / _MIB)}Mi"
    return str(int(amount)) if amount.denominator == 1 else f"{int(amount * 1000)}m"


# --- placement --------------------------------------------------------------------------------------------------------------


def _placed(
    spec: TrainingJobSpec, layers: dict[str, dict[str, Any]], capacity: CapacityType | None
) -> tuple[TrainingJobSpec, dict[str, dict[str, Any]]]:
    """Capacity type, and tolerations and node affinity added to those of the user's template, which would replace ours."""
    worker = layers[names.ROLE_WORKER]
    if capacity is not None:
        pairs = ((_KARPENTER, str(capacity)), (_NODE_GROUP, _NODE_GROUP_VALUE[capacity]))
        # Either label will do. Karpenter's first: it launches for the first term and drops terms from the front when it cannot.
        terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]} for key, value in pairs]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        worker["affinity"] = {"nodeAffinity": required}
        # Who asks for spot by name accepts nodes that are fenced off for being spot. No other taint of Karpenter is tolerated:
        # karpenter.sh/disrupted must drain the worker.
        worker["tolerations"] = [
            *worker.get("tolerations", ()),
            *({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} for key, value in pairs),
        ]
    template = dict(spec.workers.template.spec)
    if isinstance(template.get("tolerations"), list) and template["tolerations"]:
        template["tolerations"] = [*template["tolerations"], *worker.get("tolerations", ())]
    theirs = _terms(template)
    if theirs and "affinity" in worker:
        both = [_joined(one, other) for one in _terms(worker) for other in theirs]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": both}}
        template["affinity"] = merge(template["affinity"], {"nodeAffinity": required})
    changed = spec.workers.template.model_copy(update={"spec": template})
    return spec.model_copy(update={"workers": spec.workers.model_copy(update={"template": changed})}), layers


def _terms(pod_spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    node = _mapping(_mapping(pod_spec.get("affinity")).get("nodeAffinity"))
    return _mappings(_mapping(node.get("requiredDuringSchedulingIgnoredDuringExecution")).get("nodeSelectorTerms"))


def _joined(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Terms are alternatives and their expressions conditions: ours and theirs hold when all expressions of a pair do."""
    return {**theirs, "matchExpressions": [*ours["matchExpressions"], *_mappings(theirs.get("matchExpressions"))]}
