"""Short ways to say what a cluster holds: jobs and pods as the JSON the API server sends, and what the operator makes of it.

Pods go through `pod_view` and jobs through `job_from`, so every test of a decision tests the observation too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock_operator.names import ANNOTATION_WORKERS, LABEL_ATTEMPT, LABEL_INDEX, LABEL_JOB, LABEL_ROLE
from penstock_operator.trainingjob.children.common import Surroundings
from penstock_operator.trainingjob.observe import Job, Observed, PodView, Refusal, format_time, job_from, pod_view
from penstock_operator.trainingjob.plan import plan
from penstock_operator.trainingjob.status import condition
from penstock_operator.trainingjob.verdict import Plan, Rules

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
UID = "5f0c4e9e-8f5c-4b6e-9d57-0f6f0a0f7c11"
SURROUNDINGS = Surroundings(operator_key=b"k" * 32, service_url="http://penstock-operator.penstock-system.svc:8080")
RULES = Rules(surroundings=SURROUNDINGS)

# What mpirun really prints, as it ends up in the pod's termination message.
OPEN_MPI_EXIT_7 = """\
--------------------------------------------------------------------------
Primary job  terminated normally, but 1 process returned
a non-zero exit code. Per user-direction, the job has been aborted.
--------------------------------------------------------------------------
--------------------------------------------------------------------------
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

  Process name: [[44323,1],1]
  Exit code:    7
--------------------------------------------------------------------------
"""
OPEN_MPI_KILLED = "mpirun noticed that process rank 1 with PID 0 on node 10.244.1.3 exited on signal 9 (Killed).\n"
OPEN_MPI_SEGV = "mpirun noticed that process rank 1 with PID 0 on node 10.244.1.1 exited on signal 11 (Segmentation fault).\n"
OPEN_MPI_ABORT = """\
--------------------------------------------------------------------------
MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD
with errorcode 3.

NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.
"""
OPEN_MPI_NOT_FOUND = """\
--------------------------------------------------------------------------
mpirun was unable to launch the specified application as it could not access
or execute an executable:

Executable: /opt/nothing
Node: 10.244.1.1

while attempting to start process rank 0.
--------------------------------------------------------------------------
"""
OPEN_MPI_RING_BROKEN = """\
--------------------------------------------------------------------------
ORTE has lost communication with a remote daemon.

  HNP daemon   : [[44323,0],0] on node digits-launcher
  Remote daemon: [[44323,0],2] on node 10.244.1.2

This is usually due to either a failure of the TCP network
connection to the node, or possibly an internal failure of
the daemon itself. We cannot recover from this failure, and
therefore will terminate the job.
--------------------------------------------------------------------------
"""
MPICH_EXIT_7 = """\
===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 187 RUNNING AT 10.244.1.2
=   EXIT CODE: 7
=   CLEANING UP REMAINING PROCESSES
=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES
===================================================================================
[proxy:0:0@digits-worker-0] HYD_pmcd_pmip_control_cmd_cb (pm/pmiserv/pmip_cb.c:480): assert (!closed) failed
[proxy:0:0@digits-worker-0] HYDT_dmxu_poll_wait_for_event (tools/demux/demux_poll.c:76): callback returned error status
"""
INTEL_KILLED = """\
===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   RANK 1 PID 187 RUNNING AT 10.244.1.2
=   KILLED BY SIGNAL: 11 (Segmentation fault)
===================================================================================
"""


@dataclass(frozen=True)
class Maker:
    """`make_job().workers(4).gpus(8).body()`: each step returns a changed copy."""

    name: str = "digits"
    uid: str = UID
    spec: Mapping[str, Any] = field(default_factory=lambda: {"image": "penstock/trainer:0.1.0", "command": ["python", "t.py"]})
    status: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 1
    deleting: bool = False

    def named(self, name: str) -> Maker:
        return replace(self, name=name)

    def with_uid(self, uid: str) -> Maker:
        return replace(self, uid=uid)

    def with_spec(self, **parts: Any) -> Maker:
        return replace(self, spec={**self.spec, **parts})

    def workers(self, replicas: int, **parts: Any) -> Maker:
        return self.with_spec(workers={**self.spec.get("workers", {}), "replicas": replicas, **parts})

    def gpus(self, count: int) -> Maker:
        workers = {"replicas": 1, **self.spec.get("workers", {})}
        return self.with_spec(workers={**workers, "resources": {"limits": {"nvidia.com/gpu": count}}})

    def policy(self, **parts: Any) -> Maker:
        return self.with_spec(runPolicy={**self.spec.get("runPolicy", {}), **parts})

    def mpi(self, implementation: str, *args: str) -> Maker:
        return self.with_spec(mpi={"implementation": implementation, "args": list(args)})

    def with_status(self, status: Mapping[str, Any] | None) -> Maker:
        assert status is not None
        return replace(self, status=status)

    def at_generation(self, generation: int) -> Maker:
        return replace(self, generation=generation)

    def being_deleted(self) -> Maker:
        return replace(self, deleting=True)

    def body(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "namespace": "team-a",
            "name": self.name,
            "uid": self.uid,
            "generation": self.generation,
            "resourceVersion": "1",
            "creationTimestamp": format_time(NOW),
        }
        if self.deleting:
            metadata["deletionTimestamp"] = format_time(NOW)
        return {"metadata": metadata, "spec": self.spec, "status": self.status}

    def job(self) -> Job:
        return job_from(self.body())


def make_job() -> Maker:
    return Maker()


@dataclass(frozen=True)
class PodMaker:
    """A pod as the API server sends it; `.ready()`, `.ended(7)`, ... say what became of it."""

    name: str
    role: str
    index: int
    attempt: int
    owner: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=lambda: {"phase": "Pending"})
    deleting: bool = False
    uid: str = ""

    def view(self) -> PodView:
        return pod_view(self.body())

    def body(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": "team-a",
            "uid": self.uid or f"uid-{self.name}",
            "labels": {
                LABEL_JOB: "digits",
                LABEL_ROLE: self.role,
                LABEL_INDEX: str(self.index),
                LABEL_ATTEMPT: str(self.attempt),
            },
            "annotations": dict(self.annotations),
            "ownerReferences": [{"kind": "TrainingJob", "name": "digits", "uid": self.owner, "controller": True}],
            "creationTimestamp": format_time(NOW),
        }
        if self.deleting:
            metadata["deletionTimestamp"] = format_time(NOW)
        bound = {"nodeName": f"node-{self.index}"} if self.status.get("phase") != "Pending" else {}
        return {"metadata": metadata, "spec": bound, "status": dict(self.status)}

    def with_status(self, **parts: Any) -> PodMaker:
        return replace(self, status={**self.status, **parts})

    def owned_by(self, uid: str) -> PodMaker:
        return replace(self, owner=uid, uid=f"uid-{self.name}-of-{uid}")

    def gone(self) -> PodMaker:
        """Deleted by somebody, and still there for its grace period."""
        return replace(self, deleting=True)

    def _main(self, **state: Any) -> list[dict[str, Any]]:
        return [{"name": self.role, "state": state}]

    def running(self, since: datetime = NOW) -> PodMaker:
        """The container runs; a worker does not answer on its port yet."""
        return self.with_status(
            phase="Running",
            podIP=f"10.244.1.{self.index + 1}",
            hostIP="192.168.0.1",
            conditions=[{"type": "Ready", "status": "False"}],
            containerStatuses=self._main(running={"startedAt": format_time(since)}),
        )

    def ready(self, since: datetime = NOW) -> PodMaker:
        return self.running(since).with_status(conditions=[{"type": "Ready", "status": "True"}])

    def without_ip(self) -> PodMaker:
        return self.with_status(podIP=None)

    def unschedulable(self, message: str) -> PodMaker:
        return self.with_status(
            conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
        )

    def waiting(self, reason: str, message: str = "") -> PodMaker:
        return self.with_status(phase="Pending", containerStatuses=self._main(waiting={"reason": reason, "message": message}))

    def init_waiting(self, reason: str) -> PodMaker:
        """An init container of the user's template cannot start; the main one waits for it."""
        return self.waiting("PodInitializing").with_status(
            initContainerStatuses=[{"name": "fetch", "state": {"waiting": {"reason": reason}}}]
        )

    def init_failed(self, code: int) -> PodMaker:
        return self.waiting("PodInitializing").with_status(
            phase="Failed",
            initContainerStatuses=[
                {"name": "fetch", "state": {"terminated": {"exitCode": code, "reason": "Error", "message": "no data"}}}
            ],
        )

    def ended(
        self, code: int, message: str = "", *, reason: str = "", at: datetime = NOW, phase: str = "", signal: int | None = None
    ) -> PodMaker:
        state = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": message,
            "finishedAt": format_time(at),
        }
        if signal is not None:
            state["signal"] = signal
        return self.with_status(
            phase=phase or ("Succeeded" if code == 0 else "Failed"),
            conditions=[],
            containerStatuses=self._main(terminated=state),
        )

    def taken(self, reason: str, message: str = "") -> PodMaker:
        """Ended by Kubernetes: evicted, node shut down, ..."""
        return self.with_status(phase="Failed", reason=reason, message=message, conditions=[])

    def disrupted(self) -> PodMaker:
        conditions = [one for one in self.status.get("conditions", ()) if one["type"] != "DisruptionTarget"]
        return self.with_status(conditions=[*conditions, {"type": "DisruptionTarget", "status": "True"}])


def worker(index: int, attempt: int = 1, owner: str = UID) -> PodMaker:
    suffix = f"-a{attempt}" if attempt > 1 else ""
    return PodMaker(f"digits-worker-{index}{suffix}", "worker", index, attempt, owner)


def launcher(attempt: int = 1, workers: int = 2, owner: str = UID) -> PodMaker:
    suffix = f"-a{attempt}" if attempt > 1 else ""
    return PodMaker(f"digits-launcher{suffix}", "launcher", 0, attempt, owner, {ANNOTATION_WORKERS: str(workers)})


def ring(count: int = 2, attempt: int = 1) -> list[PodMaker]:
    return [worker(index, attempt).ready() for index in range(count)]


def decide(
    job: Maker,
    *pods: PodMaker,
    now: datetime = NOW,
    refusal: Refusal | None = None,
    progress: Mapping[str, Any] | None = None,
    rules: Rules = RULES,
) -> Plan:
    observed = Observed(job=job.job(), pods=tuple(pod.view() for pod in pods), refusal=refusal, progress=progress)
    return plan(observed, rules, now)


def running_job(count: int = 2, **policy: Any) -> Maker:
    """A job whose launcher runs, with the status the operator itself writes on the way there."""
    job = make_job().workers(count).policy(**policy)
    job = job.with_status(decide(job).status)
    job = job.with_status(decide(job, *ring(count)).status)
    return job.with_status(decide(job, *ring(count), launcher(workers=count).running()).status)


def created(done: Plan, kind: str = "Pod") -> list[str]:
    return [child["metadata"]["name"] for child in done.create if child["kind"] == kind]


def removed(done: Plan) -> list[str]:
    return sorted(removal.pod.name for removal in done.remove)


def true_conditions(done: Plan) -> set[str]:
    assert done.status is not None
    return {one["type"] for one in done.status["conditions"] if one["status"] == "True"}


def reason_of(done: Plan, kind: str) -> str:
    found = condition(done.status or {}, kind)
    assert found is not None, f"no condition {kind}: {done.status}"
    return str(found["reason"])


def message_of(done: Plan, kind: str) -> str:
    found = condition(done.status or {}, kind)
    assert found is not None, f"no condition {kind}: {done.status}"
    return str(found["message"])


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)
