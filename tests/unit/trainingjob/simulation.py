"""Builders of jobs and pods as the API server shows them, and a cluster small enough to think about: it applies plans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.cloud.catalogue import load
from penstock_operator.conditions import condition
from penstock_operator.trainingjob.children.common import Surroundings
from penstock_operator.trainingjob.observe import Observed, PodView, Refusal, job_from, pod_view, storage_from
from penstock_operator.trainingjob.plan import plan
from penstock_operator.trainingjob.verdict import Plan, Rules

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CATALOGUE = load()
RULES = Rules(surroundings=Surroundings(operator_key=b"k" * 32, service_url="http://operator:8080"), catalogue=CATALOGUE)
UID = "11111111-2222-3333-4444-555555555555"

OPEN_MPI_EXIT_7 = """--------------------------------------------------------------------------
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

  Process name: [[44323,1],1]
  Exit code:    7
--------------------------------------------------------------------------"""
OPEN_MPI_SIGNAL_9 = "mpirun noticed that process rank 1 with PID 22 on node 10.0.0.2 exited on signal 9 (Killed)."
OPEN_MPI_LOST = "ORTE has lost communication with a remote daemon.\n  HNP daemon   : [[4,0],0] on node launcher"
OPEN_MPI_NOT_FOUND = "mpirun was unable to launch the specified application as it could not access\nor execute an executable:"


class Simulation:
    """One job and its pods. `step` plans once and applies the plan; tests change pods in between."""

    def __init__(self, replicas: int = 2, **spec: Any) -> None:
        self.now = NOW
        self.body: dict[str, Any] = {
            "metadata": {"namespace": "team", "name": "digits", "uid": UID, "generation": 1, "resourceVersion": "1"},
            "spec": {"image": "trainer", "command": ["train"], "workers": {"replicas": replicas}, **spec},
            "status": {},
        }
        self.pods: dict[str, dict[str, Any]] = {}
        self.going: dict[str, datetime] = {}
        """Pods whose deletion was asked for, with the end of their grace, as the operator's cache knows it."""
        self.slow_to_go = False
        """Pods use the whole of their grace, instead of being gone one step later."""
        self.undeletable = False
        """The API server refuses deletions."""
        self.created: list[str] = []
        self.cut_short: list[str] = []
        """Launchers that were still in their grace, or knew of no end, when the next one was made: it kills their ranks."""
        self.refusal: Refusal | None = None
        self.warning = ""
        self.progress: dict[str, Any] | None = None
        self.volume: dict[str, Any] | None = None
        """The LustreVolume `data` as the API server shows it."""
        self._uids = 0

    # --- what the cluster does ------------------------------------------------------------------------------------------

    def ready(self, *pods: str) -> None:
        """The kubelet reports these pods (default: all workers) running and Ready."""
        for name in pods or [
            name for name, pod in self.pods.items() if pod["metadata"]["labels"][names.LABEL_ROLE] == "worker"
        ]:
            status = self._run(name)
            status["conditions"] = [{"type": "Ready", "status": "True"}]

    def running(self, name: str) -> None:
        self._run(name)

    def waiting(self, name: str, reason: str, message: str = "") -> None:
        role = self.pods[name]["metadata"]["labels"][names.LABEL_ROLE]
        state = {"waiting": {"reason": reason, "message": message}}
        self.pods[name]["status"] = {"phase": "Pending", "containerStatuses": [{"name": role, "state": state}]}

    def ended(self, name: str, code: int, message: str = "", exit_reason: str = "Error", **pod: Any) -> None:
        role = self.pods[name]["metadata"]["labels"][names.LABEL_ROLE]
        state = {"terminated": {"exitCode": code, "message": message, "reason": exit_reason, "finishedAt": _text(self.now)}}
        phase = "Succeeded" if code == 0 else "Failed"
        self.pods[name]["status"] = {"phase": phase, "containerStatuses": [{"name": role, "state": state}], **pod}

    def deleting(self, name: str, grace: int = 0) -> None:
        """Somebody deletes this pod; it is killed after `grace` seconds."""
        metadata = self.pods[name]["metadata"]
        metadata["deletionTimestamp"] = _text(self.now + timedelta(seconds=grace))
        metadata["deletionGracePeriodSeconds"] = grace

    def gone(self, name: str) -> None:
        del self.pods[name]
        self.going.pop(name, None)

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # --- what the operator does -----------------------------------------------------------------------------------------

    def observed(self) -> Observed:
        views = tuple(self.view(name) for name in self.pods)
        storage = {"data": storage_from(self.volume)} if self.volume else {}
        job = job_from(self.body)
        return Observed(
            job=job, pods=views, refusal=self.refusal, progress=self.progress, storage=storage, warning=self.warning
        )

    def plan(self) -> Plan:
        return plan(self.observed(), RULES, self.now)

    def step(self) -> Plan:
        """Plan and apply: status, children, removals. A removed pod is planned from as the cache shows it, once at least,
        before it is gone."""
        made = self.plan()
        if made.status is not None:
            self.body["status"] = {key: value for key, value in made.status.items() if value is not None}
        for child in made.create:
            if child["kind"] == "Pod" and child["metadata"]["name"] not in self.pods:
                if child["metadata"]["labels"][names.LABEL_ROLE] == names.ROLE_LAUNCHER:
                    self.cut_short += [name for name in self.pods if self._in_its_time(name)]
                self._uids += 1
                child["metadata"]["uid"] = f"pod-{self._uids}"
                self.pods[child["metadata"]["name"]] = child
                self.created.append(child["metadata"]["name"])
        for name, gone_at in list(self.going.items()):
            if not self.slow_to_go or gone_at <= self.now:
                self.gone(name)
        for pod in (removal.pod for removal in made.remove if not self.undeletable):
            self.going[pod.name] = self.now + pod.grace
        return made

    def settle(self, limit: int = 10) -> None:
        """Step until a plan changes nothing; fails when that does not happen."""
        for _ in range(limit):
            before = (dict(self.body["status"]), set(self.pods), set(self.going))
            self.step()
            if before == (self.body["status"], set(self.pods), set(self.going)):
                return
        raise AssertionError(f"no rest after {limit} steps: {self.body['status']}")

    def started(self) -> Simulation:
        """Workers Ready and the launcher running."""
        self.settle()
        self.ready()
        self.settle()
        self.running("digits-launcher")
        self.settle()
        return self

    # --- what a test asks -----------------------------------------------------------------------------------------------

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.body["status"]
        return status

    def true(self, kind: str) -> bool:
        return (condition(self.status, kind) or {}).get("status") == "True"

    def why(self, kind: str) -> str:
        return str((condition(self.status, kind) or {}).get("reason"))

    def said(self, kind: str) -> str:
        return str((condition(self.status, kind) or {}).get("message"))

    def view(self, name: str) -> PodView:
        """A pod as the operator's cache shows it."""
        seen = pod_view(self.pods[name])
        return seen.going(self.going[name]) if name in self.going else seen

    def _in_its_time(self, name: str) -> bool:
        pod = self.view(name)
        return pod.role == names.ROLE_LAUNCHER and not pod.ended and (pod.gone_at is None or pod.gone_at > self.now)

    def _run(self, name: str) -> dict[str, Any]:
        role = self.pods[name]["metadata"]["labels"][names.LABEL_ROLE]
        state = {"running": {"startedAt": _text(self.now)}}
        number = sorted(self.pods).index(name) + 1
        status: dict[str, Any] = {
            "phase": "Running",
            "podIP": f"10.0.0.{number}",
            "containerStatuses": [{"name": role, "state": state}],
        }
        self.pods[name]["status"] = status
        self.pods[name]["spec"]["nodeName"] = f"node-{number}"
        return status


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
