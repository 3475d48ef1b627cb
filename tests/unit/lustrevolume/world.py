"""AWS, the cluster and one LustreVolume as plain values: what an operator sees, and what becomes of its actions.

It keeps the rules of AWS that decisions rest on: tokens, no export beside auto export, files that are gone with their file
system. It checks at once what must never happen.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from penstock_operator.api.lustrevolume import Repository
from penstock_operator.cloud.fsx import Association, FileSystem, Place, Task, slashed
from penstock_operator.lustrevolume import verdict
from penstock_operator.lustrevolume.observe import FINALIZER, Claim, Observed, Trouble, Volume, volume_from
from penstock_operator.lustrevolume.plan import plan

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = verdict.Rules()
CREATE: dict[str, Any] = {"create": {"subnetId": "subnet-0123456789abcdef0"}}
HERE, ELSEWHERE = Place("111122223333", "us-east-1"), Place("444455556666", "us-east-1")
EXPORTED: dict[str, Any] = {"path": "/out", "s3": "s3://bucket/out/", "exportEvents": ["New"]}


@dataclass
class World:
    """Facts; `step` is one reconcile. What the operator remembers is next to nothing, as if it were killed after each."""

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
    task_paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    claim: Claim = field(default_factory=Claim)
    used_by: tuple[str, ...] = ()
    adopted_by: tuple[str, ...] = ()
    zone_trouble: Trouble | None = None
    unexported: dict[str, set[int]] = field(default_factory=dict)
    """Files that S3 does not have, by the folder that pods wrote them into."""
    exporting: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    """What was there when a task began, by its token: what is written later it does not export."""
    asked_in: Place = HERE
    """Where the operator asks AWS."""
    hidden_until: datetime = START
    """AWS knows the file system, and answers as if it did not."""
    deletion_taken: bool = False
    """The operator remembers that AWS took its DeleteFileSystem."""
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
        found = self.file_system
        shown = found if found and self.asked_in == found.place and self.now >= self.hidden_until else None
        return Observed(
            self.volume,
            file_system_id=self.spec.get("fileSystemId") or self.status.get("fileSystemId"),
            file_system=shown,
            place=self.asked_in,
            deleted=self.deletion_taken,
            zone="us-east-1a" if shown else "",
            associations=tuple(self.links.values()) if shown else (),
            task=next((task for task in self.tasks.values() if task.id == task_id), None),
            claim=self.claim,
            used_by=self.used_by,
            held_by=self.used_by,
            adopted_by=self.adopted_by,
            zone_trouble=self.zone_trouble,
        )

    def ask_where_it_is(self) -> None:
        """Somebody has mended the operator's account."""
        self.asked_in = Place(self.status["account"], self.status["region"]) if "region" in self.status else HERE

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
        self.deletion_taken = self.deletion_taken and done == 99
        return decided

    def settle(self, limit: int = 160) -> None:
        """Reconcile, with AWS and the cluster going on, until several looks in a row bring nothing new."""
        quiet = 0
        for _ in range(limit):
            before = (self.status, self.finalizers)
            decided = self.step()
            still = not self.go_on() and not decided.actions and before == (self.status, self.finalizers)
            quiet = quiet + 1 if still else 0
            if self.gone or quiet == 12:  # longer than a doubt lasts
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
                for path, files in self.exporting.pop(token).items():
                    self.unexported[path] -= set() if failed else files
        if self.claim.deleting and not self.used_by:
            self.claim = replace(self.claim, claim="absent", bound=False, deleting=False, released=self.claim.volume == "ours")
        elif (self.claim.volume, self.claim.claim) == ("ours", "ours") and not self.claim.deleting:
            self.claim = replace(self.claim, bound=True)
        self.gone = self.gone or (self.deleting and not self.finalizers)
        return before != (self.file_system, self.links, self.tasks, self.claim, self.gone)

    def write(self) -> None:
        """A pod writes into every folder, if one can mount it: through this volume's claim, or another's."""
        mounted = self.claim.claim == "ours" or bool(self.adopted_by)
        if mounted and self.file_system is not None and self.file_system.lifecycle == "AVAILABLE":
            for path in self.links:
                files = self.unexported.setdefault(path, set())
                files.add(len(files))

    def do(self, action: verdict.Action) -> None:
        match action:
            case verdict.SetFinalizer():
                going = self.file_system is None or self.file_system.lifecycle == "DELETING"
                assert action.held or going or not self._owned() or self._retained(), "a paid thing is let go"
                self.finalizers = (FINALIZER,) if action.held else ()
            case verdict.CreateFileSystem():
                assert FINALIZER in self.finalizers, "CreateFileSystem without a finalizer"
                assert self.file_system is None or self.asked_in == self.file_system.place, "paid for twice, in two regions"
                if self.file_system is None:  # else the token brings back the same
                    self.created += 1
                    identity = f"fs-{self.created}"
                    self.file_system = FileSystem(
                        identity, "CREATING", created=self.now, subnet_id="subnet-1", place=self.asked_in
                    )
            case verdict.DeleteFileSystem():
                assert self._owned()
                assert self.deleting
                assert not self._retained()
                assert not self.adopted_by
                assert self.claim.claim != "ours", "DeleteFileSystem while pods can mount it"
                self.deletion_taken = True
                if self.file_system is None or self.file_system.lifecycle == "DELETING":
                    return  # FileSystemNotFound is no error
                assert self.asked_in == self.file_system.place
                exported = [slashed(one["path"]) for one in self.spec["repositories"] if one.get("exportEvents")]
                lost = [path for path in exported if self.unexported.get(path)]
                assert not lost, f"what a pod wrote into {lost} is deleted before it was exported"
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
                assert not self.adopted_by, "an export while another volume's pods can write"
                self._export(action)
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

    def _export(self, action: verdict.Export) -> None:
        if action.token in self.tasks:
            assert self.task_paths[action.token] == action.paths, "AWS refuses a token with other parameters"
            return
        assert all(task.lifecycle != "EXECUTING" for task in self.tasks.values()), "AWS runs one task at a time"
        self.tasks[action.token] = Task(f"task-{len(self.tasks)}", "EXECUTING")
        self.task_paths[action.token] = action.paths
        paths = [slashed(path) for path in action.paths]
        self.exporting[action.token] = {path: set(self.unexported.get(path, ())) for path in paths}
        self.unexported |= {path: set() for path in paths if path not in self.unexported}

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
        self.links[path] = Association(f"dra-{token[:8]}", lifecycle, path, slashed(repository.s3), *events, tag="uid-1")

    def _owned(self) -> bool:
        return "create" in self.spec

    def _retained(self) -> bool:
        return self.spec.get("reclaimPolicy") == "Retain"


def condition(world: World, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = [one for one in world.status.get("conditions", ()) if one["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else ("Absent", "")
