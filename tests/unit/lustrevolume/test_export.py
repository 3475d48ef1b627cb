"""The proof that S3 has everything: what it is bound to, and what makes it void."""

from __future__ import annotations

from tests.unit.lustrevolume.test_decisions import at_export, available, names_of
from tests.unit.lustrevolume.world import EXPORTED, World

from penstock_operator.lustrevolume import verdict

MORE = {"path": "/more", "s3": "s3://bucket/more/"}


def two_folders() -> World:
    """Linked both, and one of them exported."""
    world = available()
    world.spec = {**world.spec, "repositories": [EXPORTED, MORE]}
    world.settle()
    return world


def exporting(world: World) -> World:
    """In deletion, with the task under way."""
    world.deleting = True
    while not world.tasks:
        world.step()
        world.go_on()
    return world


def test_what_another_volumes_pods_wrote_after_the_task_began_is_exported_too() -> None:
    world = exporting(available())
    world.adopted_by = ("other/data",)
    world.step()
    assert world.status["reason"] == "InUse"
    world.write()
    world.go_on()
    world.adopted_by = ()
    assert all(task.lifecycle == "SUCCEEDED" for task in world.tasks.values())
    world.settle()
    assert (world.gone, world.deleted, len(world.task_paths)) == (True, 1, 2)


def test_a_proof_is_withdrawn_when_the_file_system_is_adopted() -> None:
    world = at_export(lifecycle="SUCCEEDED", total=7)
    world.step()
    assert world.status["export"]["proven"] is True
    world.adopted_by = ("other/data",)
    world.step()
    assert world.status["export"] == {"tries": 1, "taskId": "task-0"}
    before = dict(world.status)
    world.step()
    assert world.status == before, "once"
    world.adopted_by = ()
    [again] = world.decide().actions
    assert isinstance(again, verdict.Export)
    assert again.token == "uid-1-export-1"


def test_a_folder_whose_export_is_switched_on_in_deletion_is_exported_too() -> None:
    world = exporting(two_folders())
    world.unexported["/more/"] = {1}
    world.spec = {**world.spec, "repositories": [EXPORTED, {**MORE, "exportEvents": ["New"]}]}
    world.settle()
    assert (world.gone, world.deleted) == (True, 1)
    assert sorted(world.task_paths.values()) == [("/out",), ("/out", "/more")]


def test_a_proof_of_one_folder_is_none_of_two() -> None:
    world = exporting(two_folders())
    while not world.status["export"].get("proven"):
        world.step()
        world.go_on()
    world.spec = {**world.spec, "repositories": [EXPORTED, {**MORE, "exportEvents": ["New"]}]}
    assert "DeleteFileSystem" not in names_of(world.decide())


def test_the_proof_of_an_older_operator_names_no_folder_and_is_made_again() -> None:
    world = at_export(lifecycle="SUCCEEDED", total=7)
    world.status["export"] = {"taskId": "task-0", "failures": 0, "proven": True}
    [again] = world.step().actions
    assert isinstance(again, verdict.Export)
    assert again.token == "uid-1-export-1"
