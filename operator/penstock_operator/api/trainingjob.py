"""What the user writes: `spec` of a TrainingJob, typed once. CRD, CEL rules, reference page and parser all come from here.

Wrong input is refused at apply time by this schema; what only the cluster can know becomes a `Stalled` condition.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from penstock_operator import names
from penstock_operator.api.fields import WITHOUT_NUL, ApiModel, OpenObject, Quantity, extension, rule

_OWN_FOLDER = "/etc/penstock"
_RESERVED_MOUNTS = (names.RING_PATH, names.HOSTS_PATH, "/dev/shm")
_SYSTEM_FOLDERS = (
    *("/bin", "/dev", "/etc", _OWN_FOLDER, "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/usr/bin"),
    "/usr/lib",
)


class Backend(StrEnum):
    """How the ranks are started."""

    HOROVOD = "Horovod"
    MPI = "MPI"


class MPIImplementation(StrEnum):
    OPEN_MPI = "OpenMPI"
    MPICH = "MPICH"
    INTEL = "Intel"


class CapacityType(StrEnum):
    """How the nodes are paid for."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
    RESERVED = "reserved"


class CleanPodPolicy(StrEnum):
    ALL = "All"
    RUNNING = "Running"
    NONE = "None"


class EnvVar(ApiModel):
    """An environment variable that reaches every rank on every worker, whatever its value holds."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name, a C identifier. Names that start with PENSTOCK_ are the operator's own.",
        json_schema_extra=extension(
            rule("!self.startsWith('PENSTOCK_')", "names that start with PENSTOCK_ are set by the operator; choose another")
        ),
    )
    value: Annotated[str, StringConstraints(max_length=65536, pattern=WITHOUT_NUL)] | None = Field(
        default=None, description="Value. As in a container, the kubelet expands `$(OTHER)` and reads `$$` as `$`."
    )
    value_from: OpenObject | None = Field(
        default=None,
        description="Source of the value, as in a container: fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef.",
    )


_LEAST_MEMORY = "16Mi"


class Resources(ApiModel):
    """Compute resources of one container, as in a pod."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict, max_length=32, description="Minimum amounts. Default: the limits."
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=32,
        description="Maximum amounts. Extended resources (nvidia.com/gpu, vpc.amazonaws.com/efa) go here.",
        json_schema_extra=extension(
            # Less kills containers at once or the ring again and again, in words that tell nothing of memory.
            rule(
                "!('memory' in self) || !isQuantity(string(self['memory'])) || "
                f"!quantity(string(self['memory'])).isLessThan(quantity('{_LEAST_MEMORY}'))",
                f"memory of less than {_LEAST_MEMORY} holds neither sshd nor mpirun; write an amount such as 512Mi or 16Gi",
            )
        ),
    )


class TemplateMetadata(ApiModel):
    """Labels and annotations for the pods. `penstock.dev/` keys are the operator's own."""

    labels: dict[str, str] = Field(default_factory=dict, max_length=64, description="Labels added to the pods.")
    annotations: dict[str, str] = Field(default_factory=dict, max_length=64, description="Annotations added to the pods.")


class PodTemplate(ApiModel):
    """The last word on the pods: merged over what the operator builds, with the strategic-merge rules of a pod."""

    metadata: TemplateMetadata = Field(default_factory=TemplateMetadata, description="Labels and annotations.")
    spec: OpenObject = Field(
        default_factory=dict, description="Any part of a pod spec. The main container is called `worker` or `launcher`."
    )


class Workers(ApiModel):
    """The pods the ranks run in."""

    replicas: int = Field(
        default=1,
        ge=1,
        le=names.MAX_WORKERS,
        description="Worker pods. Changing it restarts the ring with the new size.",
        json_schema_extra={"format": "int32"},
    )
    instance_type: Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")] | None = Field(
        default=None,
        description="EC2 instance type of the nodes, such as p4d.24xlarge. Fills in devices, slots, CPU, memory, EFA, huge "
        "pages, node selector, tolerations and environment for one worker a node; what is set explicitly wins "
        "(docs/instances.md).",
    )
    capacity_type: CapacityType | None = Field(
        default=None,
        description="Only nodes of this capacity, of Karpenter or of a managed node group. reserved: Capacity Blocks and, "
        "with Karpenter, other reservations. Default: any.",
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Ranks per worker. Default: the worker's GPUs or neuron cores, else 1.",
        json_schema_extra={"format": "int32"},
    )
    resources: Resources = Field(default_factory=Resources, description="Resources of the worker container.")
    template: PodTemplate = Field(default_factory=PodTemplate, description="Merged over the built worker pod.")


class Launcher(ApiModel):
    """The pod mpirun runs in. It is created when every worker is Ready, in every path."""

    resources: Resources = Field(
        default_factory=lambda: Resources(requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "1Gi"}),
        description="Resources of the launcher container. Default: 100m CPU and 128Mi requested, 1Gi memory limit.",
    )
    template: PodTemplate = Field(default_factory=PodTemplate, description="Merged over the built launcher pod.")
    colocate: bool = Field(
        default=False,
        description="Place the launcher on the node of worker 0, with the workers' node selector and tolerations, "
        "so that no other node is held for it.",
    )

    @property
    def custom(self) -> bool:
        """Whether its pod is more than the operator's own."""
        return self.template != PodTemplate() or self.resources != Launcher().resources


class MPI(ApiModel):
    """Which mpirun the image holds, and arguments for it."""

    implementation: MPIImplementation = Field(default=MPIImplementation.OPEN_MPI, description="The MPI of the image.")
    args: list[Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=WITHOUT_NUL)]] = Field(
        default_factory=list,
        max_length=64,
        description="Arguments for mpirun, put before the program. As in a container, the kubelet expands `$(NAME)`, with the "
        "launcher's environment, and reads `$$` as `$`.",
    )


_SOURCES = ("lustreVolume", "persistentVolumeClaim", "emptyDir", "configMap", "secret")
_GIVEN = f"[{', '.join(f'has(self.{one})' for one in _SOURCES)}]"


class Volume(ApiModel):
    """One volume, mounted in every worker and in the launcher. Exactly one source."""

    model_config = ConfigDict(
        json_schema_extra=extension(
            rule(
                f"{_GIVEN}.filter(x, x).size() == 1",
                f"each volume needs exactly one of {', '.join(_SOURCES)}",
                found=f"({_GIVEN}.exists(x, x) ? 'several' : 'none')",
            )
        )
    )

    name: Annotated[str, StringConstraints(max_length=50, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = Field(
        description="Name, unique in the job.",
        json_schema_extra=extension(
            rule("!self.startsWith('penstock-')", "names that start with penstock- are the operator's own; choose another")
        ),
    )
    mount_path: Annotated[str, StringConstraints(max_length=1024, pattern=r"^/[^:]*[^:/]$")] = Field(
        description="Absolute path in the containers, without a trailing slash and without `//`, `.` and `..`.",
        json_schema_extra=extension(
            rule(
                f"!(self in {list(_RESERVED_MOUNTS)!r}) && !self.startsWith('{_OWN_FOLDER}/')",
                f"/dev/shm and everything under {_OWN_FOLDER} are the operator's own mounts; choose another path",
            ),
            rule(
                f"!(self in {list(_SYSTEM_FOLDERS)!r})",
                "a volume there hides what bash, sshd and mpirun need of the image; choose another path",
            ),
            rule("!self.matches('/([.][.]?)?(/|$)')", "write the path without '//', '.' and '..'"),
        ),
    )
    sub_path: str | None = Field(default=None, max_length=1024, description="Path inside the volume.")
    read_only: bool = Field(default=False, description="Mount read-only.")
    lustre_volume: Annotated[str, StringConstraints(min_length=1, max_length=names.MAX_VOLUME_NAME_LENGTH)] | None = Field(
        default=None,
        description="Name of a LustreVolume in the job's namespace. No pod is asked for before it is available; workers run in "
        "its zone.",
    )
    persistent_volume_claim: OpenObject | None = Field(default=None, description="`{claimName: …}`, in the job's namespace.")
    empty_dir: OpenObject | None = Field(default=None, description="Scratch space, one for each pod.")
    config_map: OpenObject | None = Field(default=None, description="`{name: …}`, as in a pod.")
    secret: OpenObject | None = Field(default=None, description="`{secretName: …}`, as in a pod.")

    @property
    def source(self) -> dict[str, Any]:
        """The pod volume's source, as a pod spec wants it."""
        if self.lustre_volume is not None:
            return {"persistentVolumeClaim": {"claimName": self.lustre_volume}}
        for key, value in (
            ("persistentVolumeClaim", self.persistent_volume_claim),
            ("emptyDir", self.empty_dir),
            ("configMap", self.config_map),
            ("secret", self.secret),
        ):
            if value is not None:
                return {key: value}
        raise ValueError(f"volume {self.name}: no source")  # the CEL rule on `volumes` refuses this at apply


class RunPolicy(ApiModel):
    """How long, how often and what stays."""

    suspend: bool = Field(
        default=False, description="True deletes the pods and keeps everything else; false starts them again."
    )
    max_restarts: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="Restarts after the program failed. Losses of nodes and pods do not count.",
        json_schema_extra={"format": "int32"},
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Fail the job when it has been active this long; the clock starts again on resume.",
        json_schema_extra={"format": "int64"},
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="Delete the finished job after this time. Default: keep it.",
        json_schema_extra={"format": "int32"},
    )
    clean_pod_policy: CleanPodPolicy = Field(
        default=CleanPodPolicy.RUNNING,
        description="Pods to delete when the job has finished: All, those still Running (ended ones keep their logs) or None.",
    )


class TrainingJobSpec(ApiModel):
    """Desired state of a TrainingJob. A change of env, volumes, resources or templates makes every pod of the ring anew."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$")] = Field(
        description="Image of the workers and the launcher; holds mpirun, sshd, bash and the framework."
    )
    command: list[Annotated[str, StringConstraints(max_length=65536, pattern=WITHOUT_NUL)]] = Field(
        min_length=1,
        max_length=256,
        description="The program every rank runs, as argv; never a shell string. Nothing is expanded in it: `$(NAME)` and "
        "`$$` reach the program as they are written.",
        json_schema_extra=extension(
            rule("self.size() == 0 || self[0] != ''", "the first element is the program; it must not be empty"),
            list_type="atomic",
        ),
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=256,
        description="Environment of every rank.",
        json_schema_extra=extension(list_type="map", list_map_keys=["name"]),
    )
    env_from: list[OpenObject] = Field(
        default_factory=list,
        max_length=64,
        description="ConfigMaps and Secrets whose keys become environment of every rank, as in a container.",
    )
    backend: Backend = Field(default=Backend.HOROVOD, description="Horovod: mpirun with Horovod's settings. MPI: plain mpirun.")
    workers: Workers = Field(default_factory=Workers, description="The worker pods.")
    launcher: Launcher = Field(default_factory=Launcher, description="The launcher pod.")
    mpi: MPI = Field(default_factory=MPI, description="MPI implementation and arguments.")
    volumes: list[Volume] = Field(
        default_factory=list,
        max_length=32,
        description="Volumes of every pod of the job.",
        json_schema_extra=extension(
            rule(  # which two: a messageExpression that looks for them is a hundred times over CEL's budget
                "self.all(v, self.exists_one(w, w.mountPath == v.mountPath))",
                "two volumes have the same mountPath; each needs its own",
            ),
            list_type="map",
            list_map_keys=["name"],
        ),
    )
    run_policy: RunPolicy = Field(default_factory=RunPolicy, description="Suspension, restarts, deadlines and clean-up.")

    @property
    def slots(self) -> int:
        """Ranks per worker: the explicit number, else the GPUs of the worker, else 1."""
        if self.workers.slots is not None:
            return self.workers.slots
        gpus = str(self.workers.resources.limits.get("nvidia.com/gpu", "0"))
        return max(1, int(gpus)) if gpus.isdigit() else 1

    @property
    def ranks(self) -> int:
        return self.slots * self.workers.replicas

    @cached_property
    def fingerprint(self) -> str:
        """Changes when pods made from this spec would differ. Defaults are left out, so that a release that adds a field
        does not restart the jobs that run."""
        shaping = self.model_dump(mode="json", exclude_defaults=True, exclude={"run_policy": True, "workers": {"replicas"}})
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


_SUSPENDED = (
    "(oldSelf.spec.?runPolicy.?suspend.orValue(false) && "
    "has(self.status) && has(self.status.conditions) && "
    "self.status.conditions.exists(c, c.type == 'Suspended' && c.status == 'True'))"
)


# A job that was never begun because its instance type is unknown or too small must be correctable at once.
_NOT_BEGUN = (
    "(has(self.status) && !has(self.status.attempt) && has(self.status.conditions) && "
    "self.status.conditions.exists(c, c.type == 'Stalled' && c.status == 'True'))"
)


def _frozen(field: str, same: str) -> dict[str, Any]:
    """A field that cannot change while pods made from it may run. Env, volumes and templates cannot be compared in CEL (they
    hold objects of any size); when one of them changes, the operator makes every pod anew."""
    return rule(
        f"{_SUSPENDED} || {_NOT_BEGUN} || {same}",
        f"spec.{field} cannot change while the job is active (set spec.runPolicy.suspend and wait for the condition Suspended) "
        "nor when it is over (delete it and apply again)",
        field_path=f".spec.{field}",
        reason="FieldValueForbidden",
    )


ROOT_RULES = (
    rule(
        f"self.metadata.name.size() <= {names.MAX_NAME_LENGTH}",
        f"metadata.name must be at most {names.MAX_NAME_LENGTH} characters: "
        "its pods are called <name>-worker-<index>-a<attempt>, and that is their host name",
    ),
    rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must start with a letter and hold only lower-case letters, digits and '-': it becomes a host name",
    ),
    *(_frozen(field, f"self.spec.{field} == oldSelf.spec.{field}") for field in ("image", "command", "backend", "mpi")),
    _frozen("workers.slots", "self.spec.?workers.?slots == oldSelf.spec.?workers.?slots"),
)
"""Rules over the whole object: they need metadata.name, or the old spec beside the new one."""

PRINTER_COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("Phase", "string", ".status.phase", 0),
    ("Reason", "string", ".status.reason", 0),
    ("Workers", "string", ".status.summary.workers", 0),
    ("Progress", "string", ".status.summary.progress", 0),
    ("ETA", "string", ".status.summary.eta", 0),
    ("Restarts", "integer", ".status.summary.restarts", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Loss", "number", ".status.progress.metrics.loss", 1),
    ("Samples/s", "number", ".status.progress.samplesPerSecond", 1),
    ("Launcher", "string", ".status.launcher.pod", 1),
    ("Instance", "string", ".spec.workers.instanceType", 1),
    ("Image", "string", ".spec.image", 1),
)
"""Name, type, JSONPath and priority (1 = only with -o wide)."""
