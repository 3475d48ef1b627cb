"""Every name other programs can meet: API identity, labels, annotations, paths, condition types, reasons, event names.

Reasons and event names are part of the API (users alert on them), so they are constants here, and docs/reasons.md is checked
against this module by a test.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "penstock.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "TrainingJob"
PLURAL: Final = "trainingjobs"
VOLUME_KIND: Final = "LustreVolume"
VOLUME_PLURAL: Final = "lustrevolumes"

FIELD_MANAGER: Final = "penstock-operator"
CONTROLLER: Final = "penstock.dev/operator"

# Labels on every child. `app.kubernetes.io/instance` is left out on purpose: Argo CD tracks by it and would prune our pods.
LABEL_JOB: Final = "penstock.dev/job-name"
LABEL_VOLUME: Final = "penstock.dev/volume-name"
LABEL_ROLE: Final = "penstock.dev/role"
LABEL_INDEX: Final = "penstock.dev/replica-index"
LABEL_ATTEMPT: Final = "penstock.dev/attempt"

# Written on the launcher pod and projected as a file by the downward API: no ConfigMap, no propagation delay.
ANNOTATION_HOSTFILE: Final = "penstock.dev/hostfile"
ANNOTATION_WORKERS: Final = "penstock.dev/workers"
# Fingerprint of the spec a worker was made from.
ANNOTATION_SPEC: Final = "penstock.dev/spec"
ANNOTATION_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
# Istio's sidecar would send pod-to-pod MPI traffic through mTLS proxies and keep finished pods alive.
ISTIO_INJECT: Final = "sidecar.istio.io/inject"

ROLE_WORKER: Final = "worker"
ROLE_LAUNCHER: Final = "launcher"

RING_PATH: Final = "/etc/penstock/ring"
HOSTS_PATH: Final = "/etc/penstock/hosts"
SSH_PORT: Final = 2222
RUN_AS: Final = 1000

# Longest child host name is "<name>-worker-1023-a999": 63 - 17.
MAX_NAME_LENGTH: Final = 46
MAX_WORKERS: Final = 1024
# Labels hold at most 63 characters, and the volume's name is one on its PersistentVolume.
MAX_VOLUME_NAME_LENGTH: Final = 63

# --- conditions -------------------------------------------------------------------------------------------------------------
COMPLETE: Final = "Complete"
FAILED: Final = "Failed"
RUNNING: Final = "Running"
SUSPENDED: Final = "Suspended"
RESTARTING: Final = "Restarting"
WORKERS_READY: Final = "WorkersReady"
STORAGE_READY: Final = "StorageReady"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"

# --- conditions of a LustreVolume -------------------------------------------------------------------------------------------
FILE_SYSTEM_AVAILABLE: Final = "FileSystemAvailable"
REPOSITORIES_LINKED: Final = "RepositoriesLinked"
CLAIM_BOUND: Final = "ClaimBound"
EXPORTED: Final = "Exported"


class Phase:
    """`status.phase`: one word for columns, derived from the conditions and the pods."""

    PENDING: Final = "Pending"
    WAITING_FOR_STORAGE: Final = "WaitingForStorage"
    WAITING_FOR_WORKERS: Final = "WaitingForWorkers"
    RUNNING: Final = "Running"
    RESTARTING: Final = "Restarting"
    SUSPENDED: Final = "Suspended"
    COMPLETE: Final = "Complete"
    FAILED: Final = "Failed"


class Reason:
    """Condition and event reasons. Each is explained, with what to do, in docs/reasons.md."""

    # progress
    ACCEPTED: Final = "Accepted"
    CREATING_WORKERS: Final = "CreatingWorkers"
    WAITING_FOR_WORKERS: Final = "WaitingForWorkers"
    WAITING_FOR_PREDECESSOR: Final = "WaitingForPredecessor"
    UNSCHEDULABLE: Final = "Unschedulable"
    SCHEDULING_GATED: Final = "SchedulingGated"
    WORKERS_READY: Final = "WorkersReady"
    STARTING_LAUNCHER: Final = "StartingLauncher"
    LAUNCHER_RUNNING: Final = "LauncherRunning"
    LAUNCHER_NOT_RUNNING: Final = "LauncherNotRunning"
    SUSPENDED: Final = "SuspendedByUser"
    RESUMED: Final = "Resumed"
    SETTLED: Final = "Settled"
    # restarts
    PROGRAM_FAILED: Final = "ProgramFailed"
    WORKER_FAILED: Final = "WorkerFailed"
    WORKER_LOST: Final = "WorkerLost"
    LAUNCHER_LOST: Final = "LauncherLost"
    RING_BROKEN: Final = "RingBroken"
    RESIZED: Final = "Resized"
    SPEC_CHANGED: Final = "SpecChanged"
    # ends
    PROGRAM_SUCCEEDED: Final = "ProgramSucceeded"
    PROGRAM_NOT_FOUND: Final = "ProgramNotFound"
    MPI_ARGUMENTS: Final = "MPIArgumentsRefused"
    UNUSABLE_USER: Final = "UnusableUser"
    DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
    INFRASTRUCTURE_RESTARTS_EXHAUSTED: Final = "InfrastructureRestartsExhausted"
    # stalls
    INVALID_SPEC: Final = "InvalidSpec"
    IMAGE_PULL_FAILED: Final = "ImagePullFailed"
    CONTAINER_CONFIG_FAILED: Final = "ContainerConfigFailed"
    CONTAINER_START_FAILED: Final = "ContainerStartFailed"
    POD_NOT_PREPARED: Final = "PodNotPrepared"
    WORKER_NOT_READY: Final = "WorkerNotReady"
    QUOTA_EXCEEDED: Final = "QuotaExceeded"
    POD_REFUSED: Final = "PodRefused"
    NAME_CONFLICT: Final = "NameConflict"
    UNKNOWN_INSTANCE_TYPE: Final = "UnknownInstanceType"
    DOES_NOT_FIT: Final = "DoesNotFitInstanceType"
    # storage of a job
    STORAGE_READY: Final = "StorageReady"
    VOLUME_NOT_FOUND: Final = "VolumeNotFound"
    VOLUME_NOT_READY: Final = "VolumeNotReady"
    ZONES_DIFFER: Final = "ZonesDiffer"


class VolumePhase:
    """`status.phase` of a LustreVolume."""

    PENDING: Final = "Pending"
    CREATING: Final = "Creating"
    LINKING: Final = "Linking"
    AVAILABLE: Final = "Available"
    DELETING: Final = "Deleting"
    FAILED: Final = "Failed"


class VolumeReason:
    """Condition and event reasons of LustreVolumes; docs/reasons.md explains each."""

    CREATING: Final = "FileSystemCreating"
    AVAILABLE: Final = "FileSystemAvailable"
    FAILED: Final = "FileSystemFailed"
    NOT_FOUND: Final = "FileSystemNotFound"
    ELSEWHERE: Final = "FileSystemElsewhere"
    MISCONFIGURED: Final = "FileSystemMisconfigured"
    LINKING: Final = "Linking"
    LINKED: Final = "Linked"
    LINK_FAILED: Final = "LinkFailed"
    UNLINKING: Final = "Unlinking"
    CLAIM_PENDING: Final = "ClaimPending"
    CLAIM_BOUND: Final = "ClaimBound"
    CLAIM_REFUSED: Final = "ClaimRefused"
    NAME_CONFLICT: Final = "NameConflict"
    INVALID_SPEC: Final = "InvalidSpec"
    IN_USE: Final = "InUse"
    UNMOUNTING: Final = "Unmounting"
    EXPORTING: Final = "Exporting"
    EXPORTED: Final = "Exported"
    EXPORT_FAILED: Final = "ExportFailed"
    DELETING: Final = "DeletingFileSystem"
    SETTLED: Final = "Settled"
    CLOUD_UNREACHABLE: Final = "CloudUnreachable"
    CLOUD_THROTTLED: Final = "CloudThrottled"
    CLOUD_REFUSED: Final = "CloudRefused"


class EventName:
    """Reasons of the Events that the operator posts. Normal unless the name says otherwise."""

    CREATED_WORKERS: Final = "CreatedWorkers"
    RUNNING: Final = "Running"
    COMPLETED: Final = "Completed"
    FAILED: Final = "Failed"
    RESTARTING: Final = "Restarting"
    SUSPENDED: Final = "Suspended"
    RESUMED: Final = "Resumed"
    STALLED: Final = "Stalled"
    UNSTALLED: Final = "Unstalled"
    UNSCHEDULABLE: Final = "Unschedulable"
