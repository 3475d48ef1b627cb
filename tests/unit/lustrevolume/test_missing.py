"""AWS knows no file system: what is let go then, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.lustrevolume.test_decisions import available, names_of
from tests.unit.lustrevolume.world import ELSEWHERE, EXPORTED, RULES, World, condition

from penstock_operator.lustrevolume import verdict
from penstock_operator.lustrevolume.observe import FINALIZER, Trouble
from penstock_operator.lustrevolume.plan import plan

LET_GO = (verdict.SetFinalizer(False),)


def unmounted(world: World) -> World:
    """In deletion, its claim and PersistentVolume gone."""
    world.deleting = True
    while names_of(world.decide()) in (["DeleteClaim"], ["DeletePersistentVolume"], []):
        world.step()
        world.go_on()
    return world


def asked_for() -> World:
    """CreateFileSystem was sent, and the operator knows no answer."""
    world = World(finalizers=(FINALIZER,))
    assert names_of(world.step(done=1)) == ["CreateFileSystem"]
    world.deleting = True
    return world


def test_one_answer_of_not_found_lets_no_file_system_go() -> None:
    world = unmounted(available())
    world.hidden_until = world.now + timedelta(minutes=1)
    assert names_of(world.step()) == []
    assert world.status["reason"] == "FileSystemNotFound"
    world.now = world.hidden_until
    world.settle()
    assert (world.gone, world.deleted) == (True, 1)


def test_what_stays_not_found_is_let_go_and_a_restart_counts_from_the_same_moment() -> None:
    world = unmounted(available())
    world.file_system = None
    world.step()
    world.now += RULES.doubt - timedelta(seconds=1)
    decided = world.step()
    assert (decided.actions, decided.again) == ((), RULES.poll)
    world.now += timedelta(seconds=1)
    assert world.decide().actions == LET_GO


def test_a_file_system_that_is_seen_again_begins_the_doubt_anew() -> None:
    world = available()
    world.hidden_until = world.now + timedelta(minutes=4)
    world.step()
    world.now = world.hidden_until
    world.settle()
    assert "missingSince" not in world.status
    assert world.status["phase"] == "Available"


def test_a_volume_that_was_long_lost_goes_at_once() -> None:
    world = available()
    world.file_system = None
    world.step()
    world.now += RULES.doubt
    assert unmounted(world).decide().actions == LET_GO


def test_what_was_asked_for_and_is_not_found_may_still_be_on_its_way() -> None:
    world = asked_for()
    assert names_of(world.step()) == []
    world.now += RULES.doubt
    assert world.decide().actions == LET_GO


def test_what_was_never_asked_for_goes_at_once() -> None:
    world = World(finalizers=(FINALIZER,), deleting=True)
    assert world.decide().actions == LET_GO


@pytest.mark.parametrize(
    ("reason", "message", "goes"),
    [
        ("CloudRefused", "BadRequest: no such subnet", True),
        ("CloudRefused", "IncompatibleParameterError: the token is known", False),
        ("CloudUnreachable", "ConnectionClosedError", False),
    ],
)
def test_what_aws_refused_to_make_goes_at_once_and_what_it_did_not_answer_does_not(
    reason: str, message: str, goes: bool
) -> None:
    world = World(finalizers=(FINALIZER,))
    [create] = world.step(done=1).actions
    trouble = Trouble(reason, message, world.now + timedelta(seconds=9), create)
    world.deleting = True
    deleted_at_once = plan(replace(world.observed(), trouble=trouble), world.now, RULES)
    assert (deleted_at_once.actions == LET_GO) is goes
    world.deleting = False
    world.status = plan(replace(world.observed(), trouble=trouble), world.now, RULES).status or {}
    world.deleting = True  # the operator was started again, and knows of no trouble
    assert (world.decide().actions == LET_GO) is goes


def test_nothing_is_let_go_nor_failed_from_another_account() -> None:
    world = available()
    world.asked_in = ELSEWHERE
    for _ in range(3):
        assert names_of(world.step()) == []
        world.now += RULES.doubt
    assert world.status["phase"] == "Available", "what is mounted stays mounted"
    assert condition(world, "Stalled") == ("True", "FileSystemElsewhere")
    assert "fs-1 is in account 111122223333, and the operator asks in 444455556666" in str(world.status["conditions"])
    world.deleting = True
    for _ in range(9):
        world.step()
        world.go_on()
        world.now += RULES.doubt
    assert (world.gone, condition(world, "Stalled")) == (False, ("True", "FileSystemElsewhere"))
    world.ask_where_it_is()
    world.settle()
    assert (world.gone, world.deleted) == (True, 1)


def test_no_second_file_system_is_asked_for_in_another_account() -> None:
    world = asked_for()
    world.deleting = False
    world.asked_in = ELSEWHERE
    assert names_of(world.step()) == []
    assert world.status["reason"] == "FileSystemElsewhere"


def test_a_deletion_that_the_operator_remembers_ends_with_the_file_system() -> None:
    world = available()
    world.deleting = True
    for _ in range(20):
        world.step()
        world.go_on()
        if world.deleted and world.file_system is None:
            break
    assert world.decide().actions == LET_GO


def test_an_operator_that_died_of_the_deletion_asks_for_it_again_and_waits_for_no_doubt() -> None:
    world = available()
    world.deleting = True
    while names_of(world.decide()) != ["DeleteFileSystem"]:
        world.step()
        world.go_on()
    world.step(done=1)  # killed when the status was written
    world.hidden_until = world.now + timedelta(minutes=1)
    assert names_of(world.step()) == ["DeleteFileSystem"]
    assert world.deleted == 1, "it was there all the time"
    world.go_on()
    assert world.decide().actions == LET_GO


def test_a_deletion_is_not_asked_for_again_when_there_is_more_to_export_since() -> None:
    more = {"path": "/more", "s3": "s3://bucket/more/"}
    world = available()
    world.spec = {**world.spec, "repositories": [EXPORTED, more]}
    world.settle()
    world.deleting = True
    while names_of(world.decide()) != ["DeleteFileSystem"]:
        world.step()
        world.go_on()
    world.step(done=1)  # killed when the status was written
    world.spec = {**world.spec, "repositories": [EXPORTED, {**more, "exportEvents": ["New"]}]}
    world.hidden_until = world.now + timedelta(minutes=1)
    assert names_of(world.step()) == []
    world.settle()
    assert (world.gone, world.deleted, len(world.task_paths)) == (True, 1, 2)
