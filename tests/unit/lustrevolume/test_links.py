"""Whose link it is: what a volume changes and removes, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.lustrevolume.test_decisions import adopting, available, names_of
from tests.unit.lustrevolume.world import EXPORTED, RULES, World, condition

from penstock_operator.lustrevolume import verdict

OUT = {"path": "/out", "s3": "s3://bucket/out/"}
OWN = {"path": "/own", "s3": "s3://bucket/own/", "exportEvents": ["New"]}


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [(OUT, "Linked"), ({**OUT, "importEvents": []}, "Linked"), ({**OUT, "exportEvents": ["New", "Changed"]}, "LinkFailed")],
    ids=["less is asked", "nothing is asked", "more is asked"],
)
def test_the_events_of_another_volumes_link_are_left_as_they_are(wanted: dict[str, Any], reason: str) -> None:
    world = adopting(available(), wanted)
    assert "SetEvents" not in names_of(world.step())
    assert condition(world, "RepositoriesLinked")[1] == reason
    if reason == "LinkFailed":
        words = "/out was linked by LustreVolume uid-of-the-other, without exportEvents CHANGED: give another path"
        assert words in str(world.status["conditions"])


def test_another_volumes_link_that_failed_is_not_removed() -> None:
    world = adopting(available(), OUT)
    world.links["/out/"] = replace(world.links["/out/"], lifecycle="FAILED", message="the bucket is gone")
    for _ in range(3):
        assert names_of(world.step()) == []
        world.now += RULES.retry
    assert condition(world, "RepositoriesLinked") == ("False", "LinkFailed")


def test_an_adopted_file_system_keeps_others_links_and_loses_ours_which_are_exported_first() -> None:
    world = adopting(available(), OUT, OWN)
    world.settle()
    assert world.status["phase"] == "Available"
    world.write()
    world.unexported.pop("/out/")  # the other volume's to export
    world.deleting = True
    world.settle()
    assert world.gone
    assert list(world.links) == ["/out/"]
    assert world.links["/out/"].export_events == {"NEW"}
    assert (world.unexported, world.deleted) == ({"/own/": set()}, 0)
    assert list(world.task_paths.values()) == [("/own",)]


def test_a_retained_link_to_an_adopted_file_system_stays() -> None:
    world = adopting(available(), OWN, reclaimPolicy="Retain")
    world.settle()
    world.deleting = True
    world.settle()
    assert (world.gone, sorted(world.links)) == (True, ["/out/", "/own/"])


def misspelt() -> World:
    """An available volume with a second repository whose bucket is not there."""
    world = available()
    world.bucket = False
    world.spec = {**world.spec, "repositories": [EXPORTED, {**OWN, "s3": "s3://bukcet/own/"}]}
    for _ in range(4):
        world.step()
        world.go_on()
    assert condition(world, "RepositoriesLinked") == ("False", "LinkFailed")
    world.bucket = True
    return world


def test_a_repository_that_never_was_linked_can_be_corrected() -> None:
    world = misspelt()
    world.spec = {**world.spec, "repositories": [EXPORTED, OWN]}
    assert names_of(world.step()) == ["Unlink"]
    world.settle()
    assert world.status["phase"] == "Available"
    assert world.links["/own/"].s3 == "s3://bucket/own/"


def test_a_repository_that_never_was_linked_can_be_removed_and_leaves_no_link() -> None:
    world = misspelt()
    world.spec = {**world.spec, "repositories": [EXPORTED]}
    world.step(done=1)  # killed when the status was written
    assert [row["path"] for row in world.status["repositories"]] == ["/out", "/own"], "asked for until it is gone"
    world.settle()
    assert world.status["phase"] == "Available"
    assert list(world.links) == ["/out/"]
    assert [row["path"] for row in world.status["repositories"]] == ["/out"]


def test_a_deleted_volume_unlinks_nothing_of_its_own_file_system_one_by_one() -> None:
    world = available()
    world.deleting = True
    actions: list[verdict.Action] = []
    while not world.gone:
        actions += world.step().actions
        world.go_on()
    assert "Unlink" not in {type(action).__name__ for action in actions}
