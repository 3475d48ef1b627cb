"""Which Lustre file systems AWS makes: sizes, throughput, versions and what goes together. Pure.

Amazon FSx API Reference, CreateFileSystem, CreateFileSystemLustreConfiguration, UpdateFileSystem; FSx for Lustre User Guide,
"Increasing storage capacity" for EFA. The wording of capacity and throughput errors is AWS's as users reported it, other
wording is ours; the codes are those of the reference.
"""

from __future__ import annotations

from typing import Any, Final

from penstock_local.aws.errors import AWSError, not_implemented

_THROUGHPUT: Final = {
    ("PERSISTENT_1", "SSD"): (50, 100, 200),
    ("PERSISTENT_1", "HDD"): (12, 40),
    ("PERSISTENT_2", "SSD"): (125, 250, 500, 1000),
}
_STORAGE: Final = {
    "SCRATCH_1": ("SSD",),
    "SCRATCH_2": ("SSD",),
    "PERSISTENT_1": ("SSD", "HDD"),
    "PERSISTENT_2": ("SSD", "INTELLIGENT_TIERING"),
}
_EFA_STEP: Final = {125: 38_400, 250: 19_200, 500: 9_600, 1000: 4_800}
_HDD_STEP: Final = {12: 6_000, 40: 1_800}
_METADATA_IOPS: Final = (1_500, 3_000, 6_000, *range(12_000, 192_001, 12_000))
_OLD_LINK: Final = ("ImportPath", "ExportPath", "ImportedFileChunkSize", "AutoImportPolicy")


def check_new(request: dict[str, Any]) -> None:
    """Raises AWSError for a CreateFileSystem request that AWS refuses."""
    if request["FileSystemType"] != "LUSTRE":
        raise not_implemented(f"FileSystemType {request['FileSystemType']} (LUSTRE is)")
    if len(request["SubnetIds"]) != 1:
        raise bad(f"Exactly one subnet ID is required for Lustre file systems, {len(request['SubnetIds'])} were given.")
    lustre = request.get("LustreConfiguration", {})
    deployment, storage = kind(request)
    if old := [name for name in _OLD_LINK if name in lustre]:
        raise not_implemented(f"LustreConfiguration.{old[0]} (use data repository associations)")
    if storage not in _STORAGE[deployment]:
        raise bad(f"Storage type {storage} is not supported for deployment type {deployment}.")
    _check_throughput(deployment, storage, lustre)
    _check_version(deployment, lustre, request.get("FileSystemTypeVersion"))
    _check_features(deployment, storage, lustre)
    _check_capacity(deployment, storage, lustre, request.get("StorageCapacity"))
    if deployment.startswith("SCRATCH"):
        if "KmsKeyId" in request:
            raise bad("KmsKeyId is not supported for scratch file systems.")
        if lustre.get("AutomaticBackupRetentionDays"):
            raise bad("Backups are not supported for scratch file systems.")


def kind(request: dict[str, Any]) -> tuple[str, str]:
    """Deployment and storage type, with AWS's defaults."""
    deployment = request.get("LustreConfiguration", {}).get("DeploymentType", "SCRATCH_1")
    return deployment, request.get("StorageType", "SSD")


def version(request: dict[str, Any]) -> str:
    """FileSystemTypeVersion, with AWS's default, which is older than anyone wants."""
    deployment, _ = kind(request)
    new = "2.15" if "MetadataConfiguration" in request.get("LustreConfiguration", {}) else "2.12"
    return str(request.get("FileSystemTypeVersion", new if deployment == "PERSISTENT_2" else "2.10"))


def check_update(fields: dict[str, Any], lustre: dict[str, Any], request: dict[str, Any]) -> None:
    """Raises AWSError for an UpdateFileSystem request; `fields` and `lustre` are what the file system has."""
    changes = request.get("LustreConfiguration", {})
    if "StorageCapacity" not in request and not changes:
        raise bad("No updates were requested.")
    deployment, storage = lustre["DeploymentType"], fields["StorageType"]
    if "PerUnitStorageThroughput" in changes:
        if lustre.get("EfaEnabled"):
            raise bad("PerUnitStorageThroughput cannot be changed on EFA-enabled file systems.")
        _check_throughput(deployment, storage, changes)
    if "StorageCapacity" in request:
        wanted, has = request["StorageCapacity"], fields.get("StorageCapacity", 0)
        if deployment == "SCRATCH_1" or storage == "INTELLIGENT_TIERING":
            raise bad(f"Storage capacity cannot be increased for {deployment} {storage} file systems.")
        if wanted <= has:
            raise bad(f"Storage capacity must be greater than the current storage capacity of {has} GiB, {wanted} was given.")
        _check_capacity(deployment, storage, {**lustre, **changes}, wanted)
        if wanted == 1200:
            raise bad(_capacity(wanted, "Must be a multiple of 2400."))


def bad(message: str) -> AWSError:
    return AWSError("BadRequest", message)


def _check_throughput(deployment: str, storage: str, lustre: dict[str, Any]) -> None:
    allowed, given = _THROUGHPUT.get((deployment, storage)), lustre.get("PerUnitStorageThroughput")
    if allowed is None:
        if given is not None:
            raise bad(f"PerUnitStorageThroughput is not supported for {deployment} {storage} file systems.")
    elif given not in allowed:
        raise bad(
            "Invalid Lustre deployment configuration: the provided throughput is invalid or does not meet the storage "
            f"capacity requirement. {given} was given, {deployment} {storage} has {', '.join(map(str, allowed))}."
        )


def _check_capacity(deployment: str, storage: str, lustre: dict[str, Any], capacity: int | None) -> None:
    if storage == "INTELLIGENT_TIERING":
        if capacity is not None:
            raise bad("StorageCapacity is not supported for the INTELLIGENT_TIERING storage type.")
        return
    if capacity is None:
        raise bad("StorageCapacity is required.")
    throughput = int(lustre.get("PerUnitStorageThroughput", 0))
    if storage == "HDD" or lustre.get("EfaEnabled"):
        step = _HDD_STEP[throughput] if storage == "HDD" else _EFA_STEP.get(throughput, 4_800)
        if capacity < step or capacity % step:
            raise bad(_capacity(capacity, f"Must be a multiple of {step}."))
        return
    step = 3_600 if deployment == "SCRATCH_1" else 2_400
    if capacity not in (1_200, 2_400) and (capacity < step or capacity % step):
        also = "1200, 2400 or a multiple of 3600" if deployment == "SCRATCH_1" else "1200 or a multiple of 2400"
        raise bad(_capacity(capacity, f"Must be {also}."))


def _capacity(capacity: int, rule: str) -> str:
    return f"Invalid Lustre FS storage capacity: {capacity}. {rule}"


def _check_version(deployment: str, lustre: dict[str, Any], given: str | None) -> None:
    if given is None:
        return
    allowed = ["2.10", "2.12", "2.15"]
    if deployment == "PERSISTENT_2":
        allowed = ["2.15"] if "MetadataConfiguration" in lustre else ["2.12", "2.15"]
    if given not in allowed:
        raise bad(f"FileSystemTypeVersion {given} is not supported for {deployment}; valid values are {', '.join(allowed)}.")


def _check_features(deployment: str, storage: str, lustre: dict[str, Any]) -> None:
    metadata, tiered = lustre.get("MetadataConfiguration"), storage == "INTELLIGENT_TIERING"
    if (storage == "HDD") != ("DriveCacheType" in lustre):
        raise bad("DriveCacheType is required for the HDD storage type and not supported otherwise.")
    if tiered != ("ThroughputCapacity" in lustre) or tiered != ("DataReadCacheConfiguration" in lustre):
        raise bad("ThroughputCapacity and DataReadCacheConfiguration go with the INTELLIGENT_TIERING storage type only.")
    if tiered and lustre["ThroughputCapacity"] % 4_000:
        raise bad(f"ThroughputCapacity must be a multiple of 4000, {lustre['ThroughputCapacity']} was given.")
    if metadata is not None and deployment != "PERSISTENT_2":
        raise bad("MetadataConfiguration is supported for the PERSISTENT_2 deployment type only.")
    if metadata and metadata["Mode"] == "USER_PROVISIONED":
        allowed = (6_000, 12_000) if tiered else _METADATA_IOPS
        if metadata.get("Iops") not in allowed:
            raise bad(f"Invalid metadata IOPS {metadata.get('Iops')}; valid values are {', '.join(map(str, allowed))}.")
    elif metadata and (tiered or "Iops" in metadata):
        raise bad("Metadata IOPS go with Mode USER_PROVISIONED, the only one of the INTELLIGENT_TIERING storage type.")
    if lustre.get("EfaEnabled") and (deployment != "PERSISTENT_2" or metadata is None):
        raise bad("EfaEnabled needs the PERSISTENT_2 deployment type with a MetadataConfiguration.")
