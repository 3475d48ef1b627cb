"""What holds whatever happens to a volume, in any order, and wherever the operator is killed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.lustrevolume.world import ELSEWHERE, EXPORTED, RULES, World

from penstock_operator.lustrevolume.observe import FINALIZER

HAPPENINGS = (
    "reconcile", "killed", "go on", "write", "use", "leave", "delete", "lose bucket", "find bucket", "fail export",
    "mend export", "fail link", "take claim", "another repository", "export it too", "retain", "later",
    "adopt", "unadopt", "hide", "other account", "own account",
)  # fmt: skip


def happen(world: World, what: str, which: int) -> None:
    match what:
        case "reconcile":
            for _ in range(which):
                world.step()
                world.go_on()
        case "step":
            world.step()
        case "killed":
            world.step(done=which)
        case "go on":
            world.go_on()
        case "write":
            world.write()
        case "use":
            world.used_by = ("job",)
        case "leave":
            world.used_by = ()
        case "delete":
            world.deleting = True
        case "lose bucket" | "find bucket":
            world.bucket = what == "find bucket"
        case "fail export" | "mend export":
            world.export_fails = what == "fail export"
        case "fail link" if world.links:
            path = sorted(world.links)[which % len(world.links)]
            world.links[path] = replace(world.links[path], lifecycle="FAILED", message="the bucket is gone")
        case "take claim" if world.claim.claim == "ours":  # somebody deletes the claim
            world.claim = replace(world.claim, deleting=True)
        case "another repository" | "export it too":
            more = EXPORTED if what == "export it too" else {}
            world.spec = {**world.spec, "repositories": [EXPORTED, {**more, "path": "/more", "s3": "s3://bucket/more/"}]}
        case "adopt":
            world.adopted_by = ("other/data",)
            world.step()  # the operator makes the other one available; it sees both
        case "unadopt":
            world.adopted_by = ()
        case "hide" if "missingSince" not in world.status:  # AWS does not lie for as long as the doubt lasts
            world.hidden_until = world.now + RULES.doubt / 2
        case "other account":
            world.asked_in = ELSEWHERE
        case "own account":
            world.ask_where_it_is()
        case "retain" if which == 0:
            world.spec = {**world.spec, "reclaimPolicy": "Retain"}
        case "later":
            world.now += timedelta(minutes=which)


STORIES = st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 5)), max_size=20)


def tell(story: list[tuple[str, int]], begun: int, deleting: bool = True) -> World:
    """A story that begins after `begun` reconciles: at 0 there is nothing yet, at 9 the volume is available."""
    world = World()
    for _ in range(begun):
        world.step()
        world.go_on()
    for what, which in story:
        if deleting or what not in ("delete", "retain"):
            happen(world, what, which)
    return world


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STORIES, st.integers(0, 9))
def test_no_story_loses_data_or_money_and_every_one_comes_to_its_end(story: list[tuple[str, int]], begun: int) -> None:
    world = tell(story, begun)
    world.used_by, world.deleting, world.bucket, world.export_fails = (), True, True, False
    world.adopted_by = ()
    world.ask_where_it_is()
    world.settle()
    if not world.gone:  # only what cannot be exported keeps it, and only until the user says so
        assert FINALIZER in world.finalizers
        assert world.status["reason"] == "ExportFailed"
        world.spec = {**world.spec, "reclaimPolicy": "Retain"}
        world.settle()
    assert world.gone
    assert world.created <= 1
    assert world.spec.get("reclaimPolicy") == "Retain" or world.file_system is None, "what was paid for is gone"
    assert (world.claim.volume, world.claim.claim) == ("absent", "absent")


DELETIONS = st.sampled_from(
    ("step", "step", "go on", "killed", "write", "adopt", "unadopt", "export it too", "fail export", "mend export", "hide")
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(DELETIONS, st.integers(0, 3)), max_size=12), st.integers(0, 8))
def test_no_story_of_a_deletion_loses_what_pods_wrote(story: list[tuple[str, int]], begun: int) -> None:
    world = World()
    happen(world, "another repository", 0)
    world.settle()
    world.write()
    world.deleting = True
    for what, which in [("reconcile", begun), *story]:
        happen(world, what, which)
    world.adopted_by, world.export_fails = (), False
    world.settle()
    assert (world.gone, world.deleted) == (True, 1)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STORIES, st.integers(0, 9))
def test_every_volume_that_is_not_deleted_is_available_when_its_bucket_is_there(
    story: list[tuple[str, int]], begun: int
) -> None:
    world = tell(story, begun, deleting=False)
    world.used_by, world.bucket = (), True
    world.ask_where_it_is()
    world.settle()
    assert (world.status["phase"], world.created) == ("Available", 1), world.status
    assert world.claim.bound
