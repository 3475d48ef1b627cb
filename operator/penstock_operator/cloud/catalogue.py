"""The catalogue of instance types: what a node of a type has, and how much of it pods may have. Plain data, read once at start.

instances.yaml comes with the operator; a platform team adds or replaces types with a file of its own (the chart's value
`config.instanceTypes`), so a new type needs no new release. Decisions get a `Catalogue` passed in and never read a file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError, model_validator

from penstock_operator.api.fields import ApiModel

GPU: Final = "nvidia.com/gpu"
NEURON: Final = "aws.amazon.com/neuron"
NEURON_CORE: Final = "aws.amazon.com/neuroncore"
EFA: Final = "vpc.amazonaws.com/efa"
HUGE_PAGES: Final = "hugepages-2Mi"

# What the DaemonSets of a GPU cluster ask for on each node: CNI, kube-proxy, CSI drivers, device plugins, metrics and logs.
DAEMONS_CPU_MILLIS: Final = 500
DAEMONS_MEMORY_MIB: Final = 1536

# A node with EFA interfaces sets 5128 pages of 2 MiB aside when it boots, and that memory is no pod's.
# Source: EKS user guide, "Run machine learning training on EKS with EFA"; its examples ask for 5120Mi a pod.
NODE_HUGE_PAGES_MIB: Final = 10256
POD_HUGE_PAGES_MIB: Final = 5120


class CatalogueError(ValueError):
    """A file of instance types that cannot be used; the message names file, entry, field, what was found and what to do."""


class Allocatable(ApiModel):
    """What a node of the type has for pods, DaemonSets included."""

    cpu_millis: int = Field(ge=1)
    memory_mib: int = Field(ge=1, alias="memoryMiB")


class InstanceType(ApiModel):
    """One instance type. Counts are of one node; `pods` is the most pods the VPC CNI allows."""

    name: str = Field(max_length=64, pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")
    gpus: int = Field(default=0, ge=0, le=64)
    gpu: str = Field(default="", max_length=64)
    neuron_devices: int = Field(default=0, ge=0, le=64)
    neuron_cores: int = Field(default=0, ge=0, le=256)
    neuron_counts: tuple[int, ...] = ()
    efa: int = Field(default=0, ge=0, le=64)
    vcpu: int = Field(ge=1, le=4096)
    memory_gib: float = Field(ge=1, le=65536, alias="memoryGiB")
    network_gbps: float | None = Field(default=None, ge=0)
    nvme_gb: int = Field(default=0, ge=0, alias="nvmeGB")
    pods: int | None = Field(default=None, ge=1, le=4096)
    usd_per_hour: float | None = Field(default=None, ge=0)
    allocatable: Allocatable | None = None
    env: dict[str, str] = Field(default_factory=dict, max_length=32)

    @model_validator(mode="after")
    def _consistent(self) -> InstanceType:
        if self.gpus and self.neuron_devices:
            raise ValueError(f"gpus is {self.gpus} and neuronDevices {self.neuron_devices}; a type has one or the other")
        if self.neuron_devices and (self.neuron_cores < 1 or self.neuron_cores % self.neuron_devices):
            raise ValueError(f"neuronCores is {self.neuron_cores}; use a multiple of neuronDevices ({self.neuron_devices})")
        if self.cpu_millis <= DAEMONS_CPU_MILLIS or self.memory_mib <= DAEMONS_MEMORY_MIB + self.huge_pages_mib:
            raise ValueError(f"{self.cpu_millis}m CPU and {self.memory_mib}Mi memory for pods leave a worker nothing")
        return self

    @property
    def devices(self) -> dict[str, int]:
        """Resource name to how many of it a node has; the first is what a worker is given when nothing is said."""
        if self.gpus:
            return {GPU: self.gpus}
        return {NEURON: self.neuron_devices, NEURON_CORE: self.neuron_cores} if self.neuron_devices else {}

    @property
    def ranks(self) -> int:
        """Ranks that a whole node takes: one for each GPU or neuron core, else 1."""
        return self.gpus or self.neuron_cores or 1

    @property
    def cpu_millis(self) -> int:
        """Allocatable CPU. Computed: vCPUs less kube-reserved as the EKS images set it (6 % of the first, 1 % of the second,
        0.5 % of the next two, 0.25 % of each other)."""
        if self.allocatable:
            return self.allocatable.cpu_millis
        steps = [60, 10, 5, 5][: self.vcpu]
        return int(self.vcpu * 1000 - sum(steps) - 2.5 * max(0, self.vcpu - 4))

    @property
    def memory_mib(self) -> int:
        """Allocatable memory. Computed as Karpenter does: 7.5 % off for the hypervisor and the kernel, kube-reserved
        (255 MiB and 11 MiB a pod), eviction threshold (100 MiB). `pods` unknown: as many as the CNI gives the largest."""
        if self.allocatable:
            return self.allocatable.memory_mib
        pods = self.pods or (737 if self.vcpu > 30 else 110)
        return int(self.memory_gib * 1024 * 0.925) - 255 - 11 * pods - 100

    @property
    def huge_pages_mib(self) -> int:
        return NODE_HUGE_PAGES_MIB if self.efa else 0


class _File(ApiModel):
    date: Any = None
    types: tuple[dict[str, Any], ...] = ()
    retired: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All known types by name; what took the place of retired ones; whether workers with EFA ask for huge pages."""

    types: Mapping[str, InstanceType] = field(default_factory=dict)
    retired: Mapping[str, str] = field(default_factory=dict)
    huge_pages: bool = True

    def nearest(self, name: str) -> list[str]:
        """Up to three known names that look like `name`; else the same family's."""
        found = difflib.get_close_matches(name, self.types, n=3, cutoff=0.75)
        family = name.partition(".")[0]
        return found or [one for one in self.types if one.partition(".")[0] == family][:3]


def load(extra: str = "", *, huge_pages: bool = True) -> Catalogue:
    """The operator's own catalogue, and over it the types of the file `extra` (a YAML list of entries, or `{types: […]}`).

    Raises:
        CatalogueError: the file cannot be read, or an entry is wrong.
    """
    own = files("penstock_operator.cloud") / "instances.yaml"
    catalogue = replace(_parse("instances.yaml", own.read_text()), huge_pages=huge_pages)
    if not extra:
        return catalogue
    try:
        text = Path(extra).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"PENSTOCK_INSTANCE_TYPES_FILE: {extra} cannot be read: {error}") from error
    added = _parse(f"PENSTOCK_INSTANCE_TYPES_FILE: {extra}", text)
    known = {**catalogue.types, **added.types}
    retired = {**catalogue.retired, **added.retired}
    return replace(catalogue, types=known, retired={old: new for old, new in retired.items() if old not in known})


def _parse(where: str, text: str) -> Catalogue:
    try:
        content = yaml.safe_load(text)
        held = _File.model_validate({"types": content} if isinstance(content, list) else content or {})
    except yaml.YAMLError as error:
        raise CatalogueError(f"{where} is no YAML: {error}") from error
    except ValidationError as error:
        raise CatalogueError(f"{where}: {_first(error)}; use a list of entries, as in docs/instances.md") from error
    types: dict[str, InstanceType] = {}
    for number, entry in enumerate(held.types, start=1):
        try:
            one = InstanceType.model_validate(entry)
        except ValidationError as error:
            raise CatalogueError(f"{where}: entry {number} ({entry.get('name', 'no name')}): {_first(error)}") from error
        if one.name in types:
            raise CatalogueError(f"{where}: entry {number}: {one.name} is there twice; keep one")
        types[one.name] = one
    return Catalogue(types=types, retired=held.retired)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (found {str(first.get('input'))[:80]!r})" if place else message
