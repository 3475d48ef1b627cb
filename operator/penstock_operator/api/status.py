"""What the operator reports: `status` of a TrainingJob.

`phase`, `reason` and `summary` are for columns and are derived; the conditions are the truth that tools wait on.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from penstock_operator.api.fields import ApiModel, BigCount, Count, Timestamp, extension


class Condition(ApiModel):
    """A standard Kubernetes condition."""

    type: str = Field(
        max_length=64,
        description="Complete, Failed, Running, Suspended, Restarting, StorageReady, WorkersReady, Reconciling or Stalled.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation this condition was computed from.", json_schema_extra={"format": "int64"}
    )
    last_transition_time: Timestamp = Field(description="When `status` last changed.")
    reason: str = Field(max_length=128, description="CamelCase word, stable; see docs/reasons.md.")
    message: str = Field(default="", max_length=4096, description="What happened, where, and what to do.")


class Restarts(ApiModel):
    """Restarts by cause."""

    code: Count = Field(default=0, description="After the program failed; limited by runPolicy.maxRestarts.")
    infrastructure: Count = Field(default=0, description="After nodes or pods were lost; free.")


class WorkersStatus(ApiModel):
    """Worker pods by state."""

    desired: Count = Field(default=0, description="Asked for.")
    current: Count = Field(default=0, description="Living pods; what the scale subresource reports.")
    ready: Count = Field(default=0, description="Ready: sshd answers.")
    failed: Count = Field(default=0, description="Failed or being deleted.")


class Progress(ApiModel):
    """The newest report of rank 0 (penstock_trainer)."""

    step: BigCount | None = Field(default=None, description="Steps done.")
    total_steps: BigCount | None = Field(default=None, description="Steps to do.")
    epoch: BigCount | None = Field(default=None, description="Epoch.")
    total_epochs: BigCount | None = Field(default=None, description="Epochs to do.")
    percent: BigCount | None = Field(default=None, description="0 to 100.")
    eta_seconds: BigCount | None = Field(default=None, description="Seconds to go, as the trainer estimates.")
    samples_per_second: float | None = Field(default=None, description="Samples per second over all ranks.")
    metrics: dict[str, float] = Field(
        default_factory=dict, max_length=32, description="Loss, accuracy and whatever the program reports."
    )
    updated_at: Timestamp | None = Field(default=None, description="When the report came.")


class Failure(ApiModel):
    """The first thing that went wrong in the newest failed attempt; kept after the pods are gone."""

    attempt: Count | None = Field(default=None, description="Attempt that failed.")
    rank: Count | None = Field(
        default=None,
        description="First failing rank, where mpirun names it. Open MPI 4 may not, if it fails within a second of the start.",
    )
    pod: str | None = Field(default=None, description="Pod that failed, or the failing rank ran in.")
    node: str | None = Field(default=None, description="Its node.")
    exit_code: int | None = Field(
        default=None, description="Exit code of the program or container.", json_schema_extra={"format": "int32"}
    )
    signal: Count | None = Field(default=None, description="Signal that ended it.")
    reason: str | None = Field(default=None, description="OOMKilled, Evicted, Error, …")
    log_tail: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="Last lines of the launcher.",
        json_schema_extra=extension(list_type="atomic"),
    )


class LauncherStatus(ApiModel):
    """The current launcher."""

    pod: str | None = Field(default=None, description="Pod name: kubectl logs -f <pod>.")


class Summary(ApiModel):
    """Ready-made texts for `kubectl get`."""

    workers: str | None = Field(default=None, description="ready/desired")
    progress: str | None = Field(default=None, description="42% 420/1000")
    eta: str | None = Field(default=None, description="3m10s")
    restarts: Count | None = Field(default=None, description="All restarts.")


class TrainingJobStatus(ApiModel):
    """Observed state of a TrainingJob."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation this status was computed from.", json_schema_extra={"format": "int64"}
    )
    phase: str | None = Field(
        default=None,
        max_length=64,
        description="One word, derived: Pending, WaitingForStorage, WaitingForWorkers, Running, Restarting, Suspended, "
        "Complete or Failed.",
    )
    reason: str | None = Field(default=None, max_length=256, description="Why the phase is what it is.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Complete, Failed, Running, Suspended, Restarting, StorageReady, WorkersReady, Reconciling, Stalled.",
        json_schema_extra=extension(list_type="map", list_map_keys=["type"]),
    )
    start_time: Timestamp | None = Field(default=None, description="When the job became active (again, after a suspension).")
    completion_time: Timestamp | None = Field(default=None, description="When it finished.")
    last_restart_time: Timestamp | None = Field(default=None, description="When the newest attempt was decided on.")
    attempt: Count | None = Field(
        default=None, description="Counts starts of the ring; pods of later attempts carry it in their names."
    )
    restarts: Restarts = Field(default_factory=Restarts, description="Restarts by cause.")
    workers: WorkersStatus = Field(default_factory=WorkersStatus, description="Worker pods by state.")
    selector: str | None = Field(default=None, description="Label selector of the workers, for the scale subresource.")
    progress: Progress | None = Field(default=None, description="The newest report of rank 0.")
    failure: Failure | None = Field(default=None, description="What went wrong last.")
    launcher: LauncherStatus | None = Field(default=None, description="The current launcher.")
    summary: Summary | None = Field(default=None, description="Texts for columns.")
