"""What a decision may look at: the job, slim views of its pods, and the few facts that live in memory.

`pod_view` runs once per watch event and keeps the fields decisions need: a thousand jobs with their pods then cost a few
megabytes, not a few hundred. Nothing here does I/O; `Observed` is all that `plan` sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.conditions import parse_time

# Reasons with which Kubernetes itself ends a pod; none is the program's fault.
# Source: kubelet eviction and shutdown managers, pod garbage collector, scheduler preemption.
INFRASTRUCTURE_POD_REASONS = frozenset(
    {
        "Evicted",
        "NodeLost",
        "NodeShutdown",
        "Terminated",
        "Shutdown",
        "Preempting",
        "Preempted",
        "UnexpectedAdmissionError",
        "NodeAffinity",
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        "OutOfnvidia.com/gpu",
    }
)


# The kubelet also evicts a pod that outgrew its own limits, and then sets no DisruptionTarget condition.
# Source: eviction_manager.go, emptyDirMessageFmt, containerEphemeralStorageMessageFmt, podEphemeralStorageMessageFmt.
_OVER_LIMIT = re.compile(r"exceed(s|ed) (the|its) .*limit")


# Reasons of the condition PodScheduled with which a scheduler that has looked says no.
_NO_PLACE = ("Unschedulable", "SchedulerError")


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of a job. Times are aware datetimes in UTC; `exit_code` is that of the main container, once it ended."""

    name: str
    uid: str
    owner_uid: str
    """Of the TrainingJob that made it; empty for a stranger's pod."""
    role: str
    index: int
    attempt: int
    phase: str
    deleting: bool
    ready: bool = False
    ip: str = ""
    node: str = ""
    host_ip: str = ""
    reason: str = ""
    message: str = ""
    disrupted: bool = False
    unschedulable: str = ""
    gated: bool = False
    """It has scheduling gates: no scheduler is to look at it yet."""
    unseen: bool = False
    """No scheduler has said anything of it."""
    waiting_reason: str = ""
    waiting_message: str = ""
    sidecar: str = ""
    """Name of a container beside the main one that does not start: it keeps the pod from being Ready."""
    sidecar_reason: str = ""
    running_since: datetime | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    exit_reason: str = ""
    exit_message: str = ""
    finished_at: datetime | None = None
    workers: int = 0
    created: datetime | None = None
    gone_at: datetime | None = None
    """When a pod that is being deleted is killed at the latest (its deletionTimestamp)."""
    grace: timedelta = timedelta(seconds=30)
    """What it is given between SIGTERM and SIGKILL. Before the watch has shown it: Kubernetes' default, and ours."""
    removed_at: datetime | None = None
    """When its deletion was asked for, where that is known."""
    spec_hash: str = ""
    """Fingerprint of the spec it was made from; empty where it has none."""
    containers_ended: bool = False
    """Sidecars too."""
    unprepared_since: datetime | None = None
    """Scheduled, but without volumes or network since then."""

    @property
    def ended(self) -> bool:
        """The main container ended, or the pod did. A Katib or Istio sidecar may keep the pod's phase at Running."""
        return self.exit_code is not None or self.finished

    @property
    def finished(self) -> bool:
        """The kubelet has said its last word."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def over(self) -> bool:
        """Every container ended: the pod holds no node any more. The phase follows its containers by a moment."""
        return self.finished or self.containers_ended

    @property
    def alive(self) -> bool:
        return not self.deleting and not self.ended

    def going(self, gone_at: datetime) -> PodView:
        """As it is once its deletion was asked for, until the watch shows that."""
        return self if self.deleting else replace(self, deleting=True, gone_at=gone_at)

    @property
    def over_limit(self) -> bool:
        """Evicted because it wrote more than its own limit allows; the next one would do the same."""
        return self.reason == "Evicted" and not self.disrupted and _OVER_LIMIT.search(self.message) is not None

    @property
    def lost(self) -> bool:
        """Taken away by the cluster, not ended by its program."""
        return not self.over_limit and (self.taken or self.deleting or (self.ended and self.exit_code is None))

    @property
    def taken(self) -> bool:
        """Ended by the cluster: evicted, preempted, its node shut down."""
        return self.disrupted or self.reason in INFRASTRUCTURE_POD_REASONS

    @property
    def ended_by_itself(self) -> bool:
        """Its program came to its own end. A program that was told to go (drain, deletion) may save its state and exit 0, and
        has not finished its work."""
        if not self.ended or self.taken:
            return False
        return not self.deleting or (
            self.finished_at is not None and self.removed_at is not None and self.finished_at < self.removed_at
        )


@dataclass(frozen=True, slots=True)
class Storage:
    """A LustreVolume as its jobs see it. `reason` and `message` say why it cannot be mounted yet."""

    available: bool
    """A job may begin with it."""
    mounts: bool = False
    """Pods of a ring that has begun find its claim: also while it is linked to more, or waits for its jobs to be deleted."""
    zone: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server did not take a child. `until`: not before then is it asked again. `launcher`: the workers were taken."""

    reason: str
    message: str
    until: datetime
    launcher: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A TrainingJob as decisions see it. `spec` is None when it does not parse; `error` then says why."""

    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool
    spec: TrainingJobSpec | None
    error: str
    status: Mapping[str, Any]
    created: datetime | None = None
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the instance type adds, by role: a pod spec to merge under the user's template."""
    fingerprint: str = ""
    """Of the spec as the user wrote it: a new figure in the catalogue makes no ring anew."""

    @property
    def attempt(self) -> int:
        return int(self.status.get("attempt") or 0)

    def condition(self, kind: str) -> Mapping[str, Any] | None:
        return next((one for one in self.status.get("conditions", ()) if one["type"] == kind), None)

    def is_true(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is not None and found["status"] == "True"


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a plan may depend on, besides the clock."""

    job: Job
    pods: tuple[PodView, ...] = ()
    refusal: Refusal | None = None
    progress: Mapping[str, Any] | None = None
    storage: Mapping[str, Storage] = field(default_factory=dict)
    """LustreVolumes that the job names, by name; one that does not exist is not in it."""
    warning: str = ""
    """What the kubelet says of a pod that is long without its volumes or its network."""
    workers: tuple[PodView, ...] = field(init=False, default=())
    launchers: tuple[PodView, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        own = [pod for pod in self.pods if pod.owner_uid == self.job.uid]
        order = sorted(own, key=lambda pod: (pod.index, pod.attempt, pod.name))
        object.__setattr__(self, "workers", tuple(pod for pod in order if pod.role == names.ROLE_WORKER))
        object.__setattr__(self, "launchers", tuple(pod for pod in order if pod.role == names.ROLE_LAUNCHER))

    @property
    def launcher(self) -> PodView | None:
        """The launcher of the current attempt."""
        return next((pod for pod in self.launchers if pod.attempt == self.job.attempt), None)

    @property
    def ring(self) -> dict[int, PodView]:
        """The living worker of each index; the newest where an old one is still going."""
        return {pod.index: pod for pod in self.workers if pod.alive and not self.outdated(pod)}

    @property
    def members(self) -> list[PodView]:
        """The living workers that the ring is to have; a surplus one, on its way out, may not hold it up."""
        replicas = self.job.spec.workers.replicas if self.job.spec else 0
        return [pod for index, pod in self.ring.items() if index < replicas]

    def outdated(self, pod: PodView) -> bool:
        """Made from another spec than today's: it may not share a ring with pods made from this one."""
        return bool(pod.spec_hash) and self.job.spec is not None and pod.spec_hash != self.job.fingerprint


def job_from(body: Mapping[str, Any]) -> Job:
    """Parse a TrainingJob object; a spec that does not parse is reported, not raised."""
    metadata = body["metadata"]
    spec, error = None, ""
    try:
        spec = TrainingJobSpec.model_validate(body.get("spec") or {})
    except ValidationError as invalid:
        first = invalid.errors()[0]
        error = f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']} (found {str(first.get('input'))[:80]!r})"
    return Job(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        deleting="deletionTimestamp" in metadata,
        spec=spec,
        error=error,
        status=body.get("status") or {},
        created=parse_time(metadata.get("creationTimestamp")),
        fingerprint=spec.fingerprint if spec else "",
    )


def storage_from(volume: Mapping[str, Any]) -> Storage:
    """What a job needs to know of a LustreVolume object."""
    status = volume.get("status") or {}
    going = "deletionTimestamp" in volume["metadata"]
    true = {one["type"]: one for one in status.get("conditions", ()) if one["status"] == "True"}
    told = true.get(names.STALLED) or true.get(names.RECONCILING) or {}
    return Storage(
        available=status.get("phase") == names.VolumePhase.AVAILABLE and not going,
        mounts={names.FILE_SYSTEM_AVAILABLE, names.CLAIM_BOUND} <= true.keys(),
        zone=status.get("zone") or "",
        reason=status.get("reason") or names.VolumePhase.PENDING,
        message="it is being deleted" if going else told.get("message") or "",
    )


def pod_view(body: Mapping[str, Any]) -> PodView:
    """Reduce a pod to what decisions need."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    labels = metadata.get("labels") or {}
    role = labels.get(names.LABEL_ROLE, "")
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    containers = status.get("containerStatuses") or ()
    main: Mapping[str, Any] = next((one for one in containers if one["name"] == role), {})
    state = main.get("state") or {}
    ended, running = state.get("terminated") or {}, state.get("running") or {}
    initial = status.get("initContainerStatuses") or ()
    if not ended and status.get("phase") == "Failed":
        ended = _failed_init(initial)
    # While init containers run the main one waits with PodInitializing, whatever keeps them; once it runs, none does.
    waiting = {} if ended or running else _first_waiting(initial) or state.get("waiting") or {}
    sidecar: Mapping[str, Any] = next((one for one in containers if one is not main and _first_waiting([one])), {})
    scheduled = conditions.get("PodScheduled", {})
    gone_at, grace = parse_time(metadata.get("deletionTimestamp")), metadata.get("deletionGracePeriodSeconds")
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=maker(metadata),
        role=role,
        index=_number(labels.get(names.LABEL_INDEX)),
        attempt=_number(labels.get(names.LABEL_ATTEMPT)),
        phase=status.get("phase") or "Pending",
        deleting="deletionTimestamp" in metadata,
        gone_at=gone_at,
        grace=_grace(spec.get("terminationGracePeriodSeconds", 30)),
        # Once the containers have ended the kubelet deletes again, with 0: when the deletion was asked for is no longer told.
        removed_at=gone_at - _grace(grace) if gone_at and grace else None,
        ready=conditions.get("Ready", {}).get("status") == "True",
        ip=status.get("podIP") or "",
        node=spec.get("nodeName") or "",
        host_ip=status.get("hostIP") or "",
        reason=status.get("reason") or "",
        message=shortened(status.get("message"), 300),
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        unschedulable=shortened(scheduled.get("message"), 2000) if scheduled.get("reason") in _NO_PLACE else "",
        gated=scheduled.get("reason") == "SchedulingGated",
        unseen=not scheduled and not spec.get("nodeName"),
        waiting_reason=waiting.get("reason") or "",
        waiting_message=shortened(waiting.get("message"), 300),
        sidecar=sidecar.get("name") or "",
        sidecar_reason=_first_waiting([sidecar]).get("reason") or "",
        running_since=parse_time(running.get("startedAt")),
        exit_code=ended.get("exitCode"),
        exit_signal=ended.get("signal"),
        exit_reason=ended.get("reason") or "",
        exit_message=(ended.get("message") or "")[-2048:],
        finished_at=parse_time(ended.get("finishedAt")),
        workers=_number((metadata.get("annotations") or {}).get(names.ANNOTATION_WORKERS)),
        created=parse_time(metadata.get("creationTimestamp")),
        spec_hash=(metadata.get("annotations") or {}).get(names.ANNOTATION_SPEC, ""),
        containers_ended=bool(containers) and all("terminated" in (one.get("state") or {}) for one in containers),
        unprepared_since=_unprepared(conditions),
    )


def maker(metadata: Mapping[str, Any]) -> str:
    """The uid of the TrainingJob that made this child; empty where none did."""
    owners = metadata.get("ownerReferences") or ()
    kind = (names.GROUP, names.KIND)  # SageMaker's controller has TrainingJobs too
    made = (one for one in owners if (one["apiVersion"].partition("/")[0], one["kind"]) == kind)
    return next((one["uid"] for one in made if one.get("controller")), "")


def _unprepared(conditions: Mapping[str, Mapping[str, Any]]) -> datetime | None:
    """A volume that cannot be mounted and a sandbox without network are told by the kubelet only as events, but this
    condition stays False. (It is True while an image is pulled.) Source: KEP-3085."""
    prepared = conditions.get("PodReadyToStartContainers", {})
    scheduled = conditions.get("PodScheduled", {})
    if prepared.get("status") != "False" or scheduled.get("status") != "True":
        return None
    return parse_time(scheduled.get("lastTransitionTime"))


def _first_waiting(statuses: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    found = [waiting for one in statuses if (waiting := (one.get("state") or {}).get("waiting"))]
    return next((one for one in found if one.get("reason") != "PodInitializing"), {})


def _failed_init(statuses: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The end of the init container that failed: the pod's main container then never ran and has no end of its own."""
    for one in statuses:
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return {**ended, "message": f"init container {one['name']}: {ended.get('message') or ended.get('reason') or ''}"}
    return {}


def shortened(text: str | None, limit: int) -> str:
    """At most so many characters; cut between words, unless a long one would be lost."""
    text = text or ""
    if len(text) <= limit:
        return text
    whole = text[: limit - 2]
    words = whole.rpartition(" ")[0]
    return f"{words if len(words) > limit * 3 // 4 else whole} …"


def _grace(seconds: int) -> timedelta:
    """Kubernetes takes any int64 in a template, Python no time after the year 9999: this runs for pods of every namespace."""
    return timedelta(seconds=min(seconds, 86400))


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
