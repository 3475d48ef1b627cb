"""Single decisions: what is seen, and what is done about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.lustrevolume.world import CREATE, EXPORTED, RULES, START, World, condition

from penstock_operator.cloud.fsx import Task
from penstock_operator.lustrevolume import verdict
from penstock_operator.lustrevolume.observe import FINALIZER, Claim, Trouble
from penstock_operator.lustrevolume.plan import plan


def available(**fields: Any) -> World:
    """A volume at rest."""
    world = World(**fields)
    world.settle()
    assert world.status["phase"] == "Available"
    return world


def without_bucket() -> World:
    """A volume whose link has failed."""
    world = World(bucket=False)
    while condition(world, "RepositoriesLinked") != ("False", "LinkFailed"):
        world.step()
        world.go_on()
    return world


def adopting(other: World, *repositories: dict[str, Any], **spec: Any) -> World:
    """A volume that names the file system of another one, whose links are there already."""
    world = World(spec={"fileSystemId": "fs-0123456789abcdef0", "repositories": list(repositories), **spec})
    world.finalizers = (FINALIZER,)
    world.file_system = other.file_system
    world.links = {path: replace(link, tag="uid-of-the-other") for path, link in other.links.items()}
    return world


def names_of(decided: verdict.Plan) -> list[str]:
    return [type(action).__name__ for action in decided.actions]


def at_export(**task: Any) -> World:
    """A volume whose deletion waits for its export, with the task as given."""
    world = available()
    world.deleting = True
    while not world.tasks:
        world.step()
        world.go_on()
    [token] = world.tasks
    world.tasks[token] = Task(world.tasks[token].id, **task)
    return world


def test_the_finalizer_comes_before_anything_is_paid_for() -> None:
    world = World()
    assert world.step().actions == (verdict.SetFinalizer(True),)
    assert names_of(world.step()) == ["CreateFileSystem"]


def test_an_adopted_file_system_needs_no_finalizer_until_a_job_uses_it() -> None:
    world = World(spec={"fileSystemId": "fs-0123456789abcdef0"})
    assert names_of(world.decide()) == []
    world.used_by = ("digits",)
    assert world.decide().actions == (verdict.SetFinalizer(True),)


def test_no_claim_is_made_before_every_link_is_there_and_it_is_named_first() -> None:
    world = without_bucket()
    assert (world.claim, "claimName" in world.status) == (Claim(), False)
    world = World()
    while names_of(world.decide()) != ["CreateChild", "CreateChild"]:
        world.step()
        world.go_on()
    world.step(done=1)  # killed when the status was written
    assert (world.claim, world.status["claimName"]) == (Claim(), "data")


def test_a_repository_added_later_takes_no_claim_away() -> None:
    world = available()
    world.spec = {**world.spec, "repositories": [EXPORTED, {"path": "/more", "s3": "s3://bucket/more/"}]}
    assert names_of(world.step()) == ["Link"]
    assert world.claim.bound
    world.settle()
    assert world.status["phase"] == "Available"


def test_a_volume_bound_to_a_claim_that_is_gone_is_made_anew() -> None:
    world = available()
    world.claim = Claim(volume="ours", released=True)
    assert names_of(world.step()) == ["DeletePersistentVolume"]
    assert names_of(world.step()) == ["CreateChild", "CreateChild"]


@pytest.mark.parametrize("foreign", [{"claim": "foreign"}, {"volume": "foreign"}])
def test_what_is_somebody_elses_is_left_alone(foreign: dict[str, Any]) -> None:
    world = available()
    world.claim = Claim(**foreign)
    assert names_of(world.step()) == []
    assert condition(world, "ClaimBound") == ("False", "NameConflict")
    world.spec["repositories"] = []
    world.deleting = True
    assert names_of(world.decide()) == ["DeleteFileSystem"]


def test_a_lost_file_system_is_not_made_again() -> None:
    world = available()
    world.file_system = None
    assert names_of(world.step()) == []
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "FileSystemNotFound"), "AWS may be wrong yet"
    world.now += RULES.doubt
    assert names_of(world.step()) == []
    assert (world.status["phase"], world.status["reason"]) == ("Failed", "FileSystemNotFound")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"lifecycle": "FAILED", "message": "no access"}, "no access"),
        ({"lifecycle": "CANCELED"}, "somebody canceled it"),
        ({"lifecycle": "SUCCEEDED", "failed": 2, "total": 7}, "2 of 7 files failed"),
    ],
)
def test_an_export_that_is_not_whole_is_no_proof_and_is_made_again_with_another_token(task: dict[str, Any], words: str) -> None:
    world = at_export(**task)
    assert names_of(world.step()) == []
    assert condition(world, "Exported") == ("False", "ExportFailed")
    assert words in str(world.status["conditions"])
    assert names_of(world.step()) == [], "not at once"
    world.now += RULES.retry
    [again] = world.decide().actions
    assert isinstance(again, verdict.Export)
    assert again.token == "uid-1-export-1"


def test_an_export_without_counts_is_waited_for() -> None:
    world = at_export(lifecycle="SUCCEEDED", counted=False)
    assert names_of(world.step()) == []
    assert "proven" not in world.status["export"]
    assert world.status["reason"] == "Exporting"


def test_a_file_system_that_another_volume_adopted_stays_until_that_one_is_gone() -> None:
    world = available(adopted_by=("other/data",))
    world.deleting = True
    for _ in range(20):
        world.step()
        world.go_on()
    assert (world.claim.claim, world.status["reason"], world.deleted) == ("ours", "InUse", 0)
    assert "other/data uses fs-1" in str(world.status["conditions"])
    world.adopted_by = ()
    world.settle()
    assert world.gone


def test_a_deletion_whose_spec_cannot_be_read_keeps_the_file_system_and_says_so() -> None:
    world = available()
    world.deleting = True
    good, world.spec = world.spec, {**world.spec, "fromTheFuture": 1}
    decided = world.step()
    assert (decided.actions, world.finalizers) == ((), (FINALIZER,))
    assert condition(world, "Stalled") == ("True", "InvalidSpec")
    world.spec = good
    world.settle()
    assert (world.gone, world.deleted) == (True, 1)


def test_a_file_system_whose_zone_cannot_be_asked_is_told_and_can_be_deleted() -> None:
    world = World(zone_trouble=Trouble("CloudRefused", "UnauthorizedOperation: no", START))
    for _ in range(6):
        world.step()
        world.go_on()
    assert world.status["fileSystemId"] == "fs-1"
    assert condition(world, "Stalled") == ("True", "CloudRefused")
    assert world.claim == Claim()
    world.deleting = True
    world.settle()
    assert (world.gone, world.deleted) == (True, 1)


def test_a_path_that_is_linked_to_another_place_is_no_link_of_this_volume() -> None:
    first = available()
    world = adopting(first, {"path": "/out", "s3": "s3://other/out/"})
    assert names_of(world.step()) == []
    assert condition(world, "RepositoriesLinked") == ("False", "LinkFailed")
    assert "linked to s3://bucket/out/, not to s3://other/out/" in str(world.status["conditions"])


def test_the_proof_is_in_the_status_before_the_file_system_goes() -> None:
    world = at_export(lifecycle="SUCCEEDED", total=7)
    assert names_of(world.step()) == []
    assert world.status["export"]["proven"] is True
    assert names_of(world.step()) == ["DeleteFileSystem"]


@pytest.mark.parametrize("lifecycle", ["FAILED", "MISCONFIGURED"])
def test_a_link_that_is_lost_keeps_the_file_system_and_is_named(lifecycle: str) -> None:
    world = available()
    world.deleting, world.claim = True, Claim()
    world.links["/out/"] = replace(world.links["/out/"], lifecycle=lifecycle, message="the bucket is gone")
    assert names_of(world.step()) == []
    assert condition(world, "Exported") == ("False", "ExportFailed")
    assert "/out -> s3://bucket/out/: the bucket is gone" in str(world.status["conditions"])


def test_a_file_system_that_no_pod_could_mount_needs_no_export() -> None:
    world = without_bucket()
    world.deleting = True
    world.settle()
    assert (world.gone, world.deleted, world.tasks) == (True, 1, {})


def test_a_retained_file_system_stays() -> None:
    world = available(spec={**CREATE, "reclaimPolicy": "Retain"})
    world.deleting = True
    world.settle()
    assert (world.gone, world.deleted) == (True, 0)
    assert world.file_system is not None


def test_a_failed_action_is_told_waited_for_and_repeated() -> None:
    world = World(finalizers=(FINALIZER,))
    [create] = world.decide().actions
    trouble = Trouble("CloudRefused", "ServiceLimitExceeded: 10 of 10", START + timedelta(seconds=4), create)
    waiting = plan(replace(world.observed(), trouble=trouble), START, RULES)
    assert (waiting.actions, waiting.again) == ((), timedelta(seconds=4))
    world.status = waiting.status or {}
    assert condition(world, "Stalled") == ("True", "CloudRefused")
    assert plan(replace(world.observed(), trouble=trouble), trouble.until, RULES).actions == (create,)


def test_trouble_with_what_is_no_longer_wanted_holds_nothing_up() -> None:
    world = without_bucket()
    link = verdict.Link("fs-1", EXPORTED, "token")  # type: ignore[arg-type]
    trouble = Trouble("CloudRefused", "BadRequest", START + timedelta(hours=1), link)
    world.deleting = True
    decided = plan(replace(world.observed(), trouble=trouble), START, RULES)
    assert names_of(decided) == ["DeleteFileSystem"]
    assert decided.status is not None
    assert decided.status["reason"] == "DeletingFileSystem"
