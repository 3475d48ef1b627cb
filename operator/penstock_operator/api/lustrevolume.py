"""What the user writes of a LustreVolume, and what the operator reports.

An FSx for Lustre file system, made or adopted, with its links to S3 and a claim that pods mount. What the schema can know is
refused at apply: sizes are those of the FSx for Lustre User Guide ("Increasing storage capacity"), limits those of the Amazon
FSx API Reference. What only AWS knows becomes a condition with AWS's own words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from penstock_operator import names
from penstock_operator.api.fields import ApiModel, Count, Timestamp, extension, rule
from penstock_operator.api.status import Condition


class DeploymentType(StrEnum):
    SCRATCH_2 = "Scratch2"
    PERSISTENT_2 = "Persistent2"


class Compression(StrEnum):
    NONE = "None"
    LZ4 = "LZ4"


class VolumeReclaimPolicy(StrEnum):
    DELETE = "Delete"
    RETAIN = "Retain"


class RepositoryEvent(StrEnum):
    NEW = "New"
    CHANGED = "Changed"
    DELETED = "Deleted"


def _slashed(one: str) -> str:
    """CEL for its path with a slash at the end."""
    return f"{one}.path.endsWith('/') ? {one}.path : {one}.path + '/'"


_IMMUTABLE = rule(
    "self == oldSelf", "cannot change: AWS has no call for it; make another LustreVolume", reason="FieldValueForbidden"
)
_EVENTS = extension(list_type="set")


class CreateFileSystem(ApiModel):
    """A file system of our own."""

    deployment_type: DeploymentType = Field(
        default=DeploymentType.SCRATCH_2,
        description="Scratch2: cheapest, no replication, for data that is in S3 anyway. Persistent2: replicated, with the "
        "throughput of choice.",
    )
    storage_capacity_gi_b: int = Field(
        default=1200,
        ge=1200,
        description="Capacity in GiB: 1200, or a multiple of 2400. With EFA a multiple of what the throughput asks for.",
        json_schema_extra={
            "format": "int32",
            **extension(rule("self == 1200 || self % 2400 == 0", "must be 1200 or a multiple of 2400")),
        },
        alias="storageCapacityGiB",
    )
    throughput_per_ti_b: int | None = Field(
        default=None,
        description="Persistent2 only, and required there: MB/s for each TiB, 125, 250, 500 or 1000.",
        json_schema_extra={
            "format": "int32",
            **extension(rule("self in [125, 250, 500, 1000]", "must be 125, 250, 500 or 1000")),
        },
        alias="throughputPerTiB",
    )
    subnet_id: Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]{8,17}$", max_length=24)] = Field(
        description="The subnet, and so the availability zone. Jobs that use the volume run in this zone."
    )
    security_group_ids: list[Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]{8,17}$", max_length=20)]] = Field(
        default_factory=list,
        max_length=50,
        description="Must let TCP 988 and 1018 to 1023 in from the nodes and from themselves. Default: the VPC's own group.",
        json_schema_extra=extension(list_type="set"),
    )
    compression: Compression = Field(default=Compression.NONE, description="LZ4: less storage and often more throughput.")
    kms_key_id: str | None = Field(
        default=None, max_length=2048, description="Persistent2 only: the key that encrypts the data."
    )
    efa: bool = Field(default=False, description="Persistent2 only: clients reach the file system over EFA.")
    metadata_iops: int | None = Field(
        default=None,
        description="Persistent2 only: 1500, 3000, 6000, or a multiple of 12000 up to 192000. Default: as the capacity gives.",
        json_schema_extra={
            "format": "int32",
            **extension(
                rule(
                    "self in [1500, 3000, 6000] || (self >= 12000 && self <= 192000 && self % 12000 == 0)",
                    "must be 1500, 3000, 6000 or a multiple of 12000 up to 192000",
                )
            ),
        },
    )
    tags: dict[str, str] = Field(default_factory=dict, max_length=40, description="Tags for the file system, for cost reports.")


CREATE_RULES = (
    _IMMUTABLE,
    rule(
        "(self.deploymentType == 'Persistent2') == has(self.throughputPerTiB)",
        "throughputPerTiB is required for Persistent2 and not possible for Scratch2",
        found="(has(self.throughputPerTiB) ? 'Scratch2 with it' : 'Persistent2 without')",
    ),
    rule(
        "self.deploymentType == 'Persistent2' || (!has(self.kmsKeyId) && !self.?efa.orValue(false) && !has(self.metadataIops))",
        "kmsKeyId, efa and metadataIops need deploymentType Persistent2",
    ),
    rule(
        # The steps are 38400, 19200, 9600 and 4800 GiB.
        "!self.?efa.orValue(false) || !has(self.throughputPerTiB) || "
        "self.storageCapacityGiB * self.throughputPerTiB % 4800000 == 0",
        "with efa, storageCapacityGiB must be a multiple of 38400, 19200, 9600 or 4800 for 125, 250, 500 or 1000 MB/s per TiB",
    ),
)


class Repository(ApiModel):
    """A folder of the file system and a prefix in S3 that show the same files."""

    path: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]*$", max_length=1024)] = Field(
        description="Folder of the file system, such as /imagenet. Folders of two repositories may not lie in each other."
    )
    s3: Annotated[str, StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$", max_length=1100)] = Field(
        description="s3://bucket/prefix/, in the region of the file system. Objects appear as files at once; the first read of "
        "a file fetches it."
    )
    import_events: list[RepositoryEvent] = Field(
        default_factory=lambda: [RepositoryEvent.NEW, RepositoryEvent.CHANGED, RepositoryEvent.DELETED],
        max_length=3,
        description="Changes in S3 that the folder follows. Empty: none after the beginning.",
        json_schema_extra=_EVENTS,
    )
    export_events: list[RepositoryEvent] = Field(
        default_factory=list,
        max_length=3,
        description="Changes in the folder that S3 follows. Empty: the folder is never exported, not even before deletion.",
        json_schema_extra=_EVENTS,
    )


class LustreVolumeSpec(ApiModel):
    """Desired state of a LustreVolume. Exactly one of fileSystemId and create."""

    file_system_id: Annotated[str, StringConstraints(pattern=r"^fs-[0-9a-f]{8,17}$", max_length=21)] | None = Field(
        default=None,
        description="Adopt this file system. It is never deleted; the links that were made here are, when their folders are "
        "exported.",
        json_schema_extra=extension(_IMMUTABLE),
    )
    create: CreateFileSystem | None = Field(default=None, description="Make one.", json_schema_extra=extension(*CREATE_RULES))
    repositories: list[Repository] = Field(
        default_factory=list,
        max_length=8,
        description="Links to S3. More can be added later; one that is linked keeps its path and prefix.",
        json_schema_extra=extension(
            rule(
                f"self.all(a, self.all(b, a.path == b.path || !({_slashed('a')}).startsWith({_slashed('b')})))",
                "one folder lies in another, which AWS refuses; give folders side by side",
            ),
            list_type="map",
            list_map_keys=["path"],
        ),
    )
    reclaim_policy: VolumeReclaimPolicy = Field(
        default=VolumeReclaimPolicy.DELETE,
        description="What becomes of a file system that was made here when the LustreVolume is deleted. Delete: folders with "
        "exportEvents are exported, the export is proven, then the file system goes. Retain: it stays, and costs on. Of an "
        "adopted one Retain keeps the links too.",
    )


ROOT_RULES = (
    rule(
        "has(self.spec.fileSystemId) != has(self.spec.create)",
        "spec needs exactly one of fileSystemId and create",
        found="(has(self.spec.create) ? 'both' : 'neither')",
    ),
    rule(
        "has(self.spec.fileSystemId) == has(oldSelf.spec.fileSystemId)",
        "spec.fileSystemId and spec.create cannot be exchanged; make another LustreVolume",
        reason="FieldValueForbidden",
    ),
    rule(
        # One whose bucket is misspelt must be correctable: no job may start before every link is there.
        "!has(oldSelf.spec.repositories) || oldSelf.spec.repositories.all(o, "
        "(has(self.spec.repositories) && self.spec.repositories.exists(n, n.path == o.path && n.s3 == o.s3)) || "
        "!(has(self.status) && has(self.status.repositories) && self.status.repositories.exists(r, r.path == o.path && "
        "has(r.lifecycle) && r.lifecycle in ['AVAILABLE', 'UPDATING'])))",
        "spec.repositories: one that is linked cannot be removed, nor its path or s3 changed; make another LustreVolume",
        field_path=".spec.repositories",
        reason="FieldValueForbidden",
    ),
    rule(
        f"self.metadata.name.size() <= {names.MAX_VOLUME_NAME_LENGTH} && "
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        f"metadata.name must be a lower-case DNS label of at most {names.MAX_VOLUME_NAME_LENGTH} characters: the claim has the "
        "same name",
    ),
)

PRINTER_COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("Phase", "string", ".status.phase", 0),
    ("Reason", "string", ".status.reason", 0),
    ("FileSystem", "string", ".status.fileSystemId", 0),
    ("GiB", "integer", ".status.storageCapacityGiB", 0),
    ("Claim", "string", ".status.claimName", 0),
    ("Used-By", "string", ".status.summary", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Zone", "string", ".status.zone", 1),
    ("Reclaim", "string", ".spec.reclaimPolicy", 1),
    ("DNS", "string", ".status.dnsName", 1),
)


class RepositoryStatus(ApiModel):
    """One link to S3, as AWS sees it."""

    path: str = Field(max_length=1024, description="Folder.")
    association_id: str | None = Field(default=None, description="Data repository association, dra-….")
    lifecycle: str | None = Field(
        default=None, max_length=32, description="CREATING, AVAILABLE, MISCONFIGURED, UPDATING, DELETING, FAILED or MISSING."
    )
    since: Timestamp | None = Field(default=None, description="When that was first seen.")
    message: str | None = Field(default=None, max_length=2048, description="What AWS says is wrong.")


class ExportStatus(ApiModel):
    """The export before deletion."""

    tries: Count = Field(default=0, description="Tasks that came before the newest one.")
    folders: list[str] = Field(
        default_factory=list,
        max_length=8,
        description="What the newest one exports: folders and where to.",
        json_schema_extra=extension(list_type="atomic"),
    )
    task_id: str | None = Field(default=None, description="Data repository task of the newest try, task-….")
    failures: Count = Field(default=0, description="Exports that failed.")
    since: Timestamp | None = Field(default=None, description="When the newest one failed.")
    proven: bool = Field(
        default=False,
        description="A task for these folders, which began after the last user had gone, ended without a failed file.",
    )


class VolumeCondition(Condition):
    type: str = Field(
        max_length=64,
        description="FileSystemAvailable, RepositoriesLinked, ClaimBound, Exported, Reconciling or Stalled.",
    )


class LustreVolumeStatus(ApiModel):
    """Observed state of a LustreVolume."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation this status was computed from.", json_schema_extra={"format": "int64"}
    )
    phase: str | None = Field(
        default=None, max_length=64, description="One word, derived: Pending, Creating, Linking, Available, Deleting or Failed."
    )
    reason: str | None = Field(default=None, max_length=128, description="Why the phase is what it is.")
    conditions: list[VolumeCondition] = Field(
        default_factory=list,
        max_length=16,
        description="FileSystemAvailable, RepositoriesLinked, ClaimBound, Exported, Reconciling, Stalled.",
        json_schema_extra=extension(list_type="map", list_map_keys=["type"]),
    )
    file_system_id: str | None = Field(default=None, description="fs-….")
    account: str | None = Field(default=None, description="AWS account that has the file system, or was asked for it.")
    region: str | None = Field(default=None, description="Its region.")
    shared: bool | None = Field(
        default=None, description="Another LustreVolume has named this file system, so its pods may have written too."
    )
    missing_since: Timestamp | None = Field(default=None, description="When AWS first knew no such file system.")
    dns_name: str | None = Field(default=None, description="Where clients mount it from.")
    mount_name: str | None = Field(default=None, description="The name that they mount.")
    zone: str | None = Field(default=None, description="Availability zone.")
    storage_capacity_gi_b: int | None = Field(
        default=None,
        description="Capacity in GiB, as AWS says.",
        json_schema_extra={"format": "int32"},
        alias="storageCapacityGiB",
    )
    claim_name: str | None = Field(default=None, description="PersistentVolumeClaim that pods mount; set before it is made.")
    repositories: list[RepositoryStatus] = Field(
        default_factory=list,
        max_length=8,
        description="Links to S3.",
        json_schema_extra=extension(list_type="map", list_map_keys=["path"]),
    )
    used_by: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="TrainingJobs that are not over and mount the volume.",
        json_schema_extra=extension(list_type="set"),
    )
    export: ExportStatus | None = Field(default=None, description="The export before deletion.")
    summary: str | None = Field(default=None, description="Text for the column Used-By.")
    creation_time: Timestamp | None = Field(default=None, description="When AWS began to make the file system.")
