"""AWS, the cluster and one LustreVolume as plain values: what an operator sees, and what becomes of its actions.

It keeps the rules of AWS that decisions rest on: tokens, no export beside auto export, files that are gone with their file
system. It checks at once what must never happen.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from penstock_operator.api.lustrevolume import Repository
from penstock_operator.cloud.fsx import Association, FileSystem, Task, slashed
from penstock_operator.lustrevolume import verdict
from penstock_operator.lustrevolume.observe import FINALIZER, Claim, Observed, Trouble, Volume, volume_from
from penstock_operator.lustrevolume.plan import plan

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = verdict.Rules()
CREATE: dict[str, Any] = {"create": {"subnetId": "subnet-0123456789abcdef0"}}
EXPORTED: dict[str, Any] = {"path": "/out", "s3": "s3://bucket/out/", "exportEvents": ["New"]}


@dataclass
class World:
    """Facts; `step` is one reconcile. What the operator remembers is nothing, as if it were killed after each."""

    spec: dict[str, Any] = field(default_factory=lambda: {**CREATE, "repositories": [EXPORTED]})
    status: dict[str, Any] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    gone: bool = False
    now: datetime = START
    file_system: FileSystem | None = None
    links: dict[str, Association] = field(default_factory=dict)
    link_tokens: dict[str, str] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    """Tokens of links that are gone: AWS may answer them with what failed."""
    tasks: dict[str, Task] = field(default_factory=dict)
    claim: Claim = field(default_factory=Claim)
    used_by: tuple[str, ...] = ()
    adopted_by: tuple[str, ...] = ()
    zone_trouble: Trouble | None = None
    written: bool = False
    """A pod wrote a file that S3 does not have."""
    created: int = 0
    deleted: int = 0
    bucket: bool = True
    export_fails: bool = False

    @property
    def volume(self) -> Volume:
        metadata: dict[str, Any] = {"namespace": "team", "name": "data", "uid": "uid-1", "finalizers": list(self.finalizers)}
        if self.deleting:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return volume_from({"metadata": metadata, "spec": self.spec, "status": self.status})

    def observed(self) -> Observed:
        task_id = (self.status.get("export") or {}).get("taskId")
        return Observed(
            self.volume,
            file_system_id=self.spec.get("fileSystemId") or self.status.get("fileSystemId"),
            file_system=self.file_system,
            zone="us-east-1a" if self.file_system else "",
            associations=tuple(self.links.values()) if self.file_system else (),
            task=next((task for task in self.tasks.values() if task.id == task_id), None),
            claim=self.claim,
            used_by=self.used_by,
            held_by=self.used_by,
            adopted_by=self.adopted_by,
            zone_trouble=self.zone_trouble,
        )

    def decide(self) -> verdict.Plan:
        return plan(self.observed(), self.now, RULES)

    def step(self, done: int = 99) -> verdict.Plan:
        """One reconcile, killed after `done` of its writes and calls (the status is the first)."""
        decided = self.decide()
        if self.gone:
            return verdict.Plan()
        if decided.status is not None and done > 0:
            self.status = decided.status
        for action in decided.actions[: max(0, done - 1)]:
            self.do(action)
        return decided

    def settle(self, limit: int = 80) -> None:
        """Reconcile, with AWS and the cluster going on, until several looks in a row bring nothing new."""
        quiet = 0
        for _ in range(limit):
            before = (self.status, self.finalizers)
            decided = self.step()
            still = not self.go_on() and not decided.actions and before == (self.status, self.finalizers)
            quiet = quiet + 1 if still else 0
            if self.gone or quiet == 5:
                return
            self.now += decided.again or timedelta(0)
        raise AssertionError(f"never at rest: {self.decide()}")

    def go_on(self) -> bool:
        """AWS and the cluster bring to its end what they were asked for. Did anything happen?"""
        before = (self.file_system, dict(self.links), dict(self.tasks), self.claim, self.gone)
        if self.file_system is not None and self.file_system.lifecycle == "CREATING":
            self.file_system = replace(self.file_system, lifecycle="AVAILABLE")
        elif self.file_system is not None and self.file_system.lifecycle == "DELETING":
            self.file_system, self.links, self.tasks = None, {}, {}
        for key, link in list(self.links.items()):
            if link.lifecycle == "DELETING":
                self.spent.add(self.link_tokens[key])
                del self.links[key]
            elif link.lifecycle in ("CREATING", "UPDATING"):
                lifecycle = "AVAILABLE" if self.bucket else "FAILED"
                self.links[key] = replace(link, lifecycle=lifecycle)
        for token, task in self.tasks.items():
            if task.lifecycle == "EXECUTING":
                failed = int(self.export_fails or not self.bucket)
                self.tasks[token] = replace(task, lifecycle="SUCCEEDED", failed=failed, total=1)
                self.written = self.written and bool(failed)
        if self.claim.deleting and not self.used_by:
            self.claim = replace(self.claim, claim="absent", bound=False, deleting=False, released=self.claim.volume == "ours")
        elif (self.claim.volume, self.claim.claim) == ("ours", "ours") and not self.claim.deleting:
            self.claim = replace(self.claim, bound=True)
        self.gone = self.gone or (self.deleting and not self.finalizers)
        return before != (self.file_system, self.links, self.tasks, self.claim, self.gone)

    def write(self) -> None:
        """A pod writes, if one can mount it."""
        if self.claim.claim == "ours" and self.file_system is not None and self.file_system.lifecycle == "AVAILABLE":
            self.written = True

    def do(self, action: verdict.Action) -> None:
        match action:
            case verdict.SetFinalizer():
                assert action.held or not self.file_system or not self._owned() or self._retained(), "a paid thing is let go"
                self.finalizers = (FINALIZER,) if action.held else ()
            case verdict.CreateFileSystem():
                assert FINALIZER in self.finalizers, "CreateFileSystem without a finalizer"
                if self.file_system is None:  # else the token brings back the same
                    self.created += 1
                    self.file_system = FileSystem(f"fs-{self.created}", "CREATING", created=self.now, subnet_id="subnet-1")
            case verdict.DeleteFileSystem():
                assert self.file_system is not None
                assert self._owned()
                assert self.deleting
                assert not self._retained()
                assert not self.written, "what a pod wrote is deleted before it was exported"
                assert self.claim.claim != "ours", "DeleteFileSystem while pods can mount it"
                self.deleted += 1
                self.file_system = replace(self.file_system, lifecycle="DELETING")
            case verdict.Link():
                self._link(action.repository, action.token)
            case verdict.Unlink():
                key = next(path for path, link in self.links.items() if link.id == action.association_id)
                self.links[key] = replace(self.links[key], lifecycle="DELETING")
            case verdict.SetEvents():
                key = next(path for path, link in self.links.items() if link.id == action.association_id)
                events = frozenset(action.import_events), frozenset(action.export_events)
                self.links[key] = replace(
                    self.links[key], lifecycle="UPDATING", import_events=events[0], export_events=events[1]
                )
            case verdict.Export():
                assert self.claim.claim != "ours", "an export while pods can write"
                assert not any(self.links[slashed(path)].export_events for path in action.paths), "export beside auto export"
                self.tasks.setdefault(action.token, Task(f"task-{len(self.tasks)}", "EXECUTING"))
                # What the operator remembers of its own call.
                self.status = {
                    **self.status,
                    "export": {**(self.status.get("export") or {}), "taskId": self.tasks[action.token].id},
                }
            case verdict.CreateChild():
                kind = "claim" if action.body["kind"] == "PersistentVolumeClaim" else "volume"
                if getattr(self.claim, kind) == "absent":
                    self.claim = replace(self.claim, **{kind: "ours"}, uid="claim-1")  # type: ignore[arg-type]
            case verdict.DeleteClaim():
                self.claim = replace(self.claim, deleting=True)
            case verdict.DeletePersistentVolume():
                self.claim = replace(self.claim, volume="absent", released=False)
            case _:
                assert_never(action)

    def _link(self, repository: Repository, token: str) -> None:
        path = slashed(repository.path)
        if path in self.links:
            assert self.link_tokens[path] == token, f"{path} is linked twice"
            return
        self.link_tokens[path] = token
        lifecycle = "FAILED" if token in self.spent else "CREATING"
        events = [
            frozenset(event.value.upper() for event in each) for each in (repository.import_events, repository.export_events)
        ]
        self.links[path] = Association(f"dra-{token[:8]}", lifecycle, path, slashed(repository.s3), events[0], events[1])

    def _owned(self) -> bool:
        return "create" in self.spec

    def _retained(self) -> bool:
        return self.spec.get("reclaimPolicy") == "Retain"


def condition(world: World, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = [one for one in world.status.get("conditions", ()) if one["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else ("Absent", "")
