"""The operator is killed at every call that changes something, in AWS or in the cluster, and nothing is lost or left."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from tests.volumes.crashes import Life, Moment, live, namespace

from penstock_local.aws import FakeAWS
from penstock_local.controlplane import ControlPlane

pytestmark = pytest.mark.api

MOMENTS: tuple[Moment, ...] = ("never", "before", "after")
AWS = [
    "CreateDataRepositoryAssociation",
    "CreateDataRepositoryAssociation",
    "CreateDataRepositoryTask",
    "CreateFileSystem",
    "DeleteFileSystem",
    "UpdateDataRepositoryAssociation",
]
CLUSTER = {
    "PATCH LustreVolume",  # its finalizer, to and fro
    "PATCH status",
    "POST PersistentVolume",
    "POST PersistentVolumeClaim",
    "DELETE PersistentVolumeClaim",
    "DELETE PersistentVolume",
}


@pytest.fixture(scope="module")
def lives(plane: ControlPlane, aws: FakeAWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Life]]:
    """Three lives side by side: one undisturbed, and one for each moment of death."""
    folder = tmp_path_factory.mktemp("lives")
    with ExitStack() as stack:
        places = {moment: stack.enter_context(namespace(plane, aws, f"killed-{moment}")) for moment in MOMENTS}
        pool = stack.enter_context(ThreadPoolExecutor())
        begun = {moment: pool.submit(live, plane, places[moment], folder, moment) for moment in MOMENTS}
        yield {moment: life.result() for moment, life in begun.items()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_volume_lives_and_ends_as_it_should_whenever_the_operator_dies(lives: dict[str, Life], moment: Moment) -> None:
    life = lives[moment]
    assert len(life.file_systems) == 1, f"made: {life.file_systems}"
    assert life.left == []
    assert life.volumes == [None, None, None], "LustreVolume, claim and PersistentVolume are gone"
    assert life.objects == {"out/model.bin": b"second"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_data_goes_only_after_an_export_that_began_when_the_claim_had_gone(lives: dict[str, Life], moment: Moment) -> None:
    life = lives[moment]
    assert life.claims_at_export
    assert all(claim is None for claim in life.claims_at_export)
    assert life.tasks_at_deletion
    assert all(("SUCCEEDED", 0) in tasks for tasks in life.tasks_at_deletion)


def test_every_call_point_of_an_undisturbed_life_is_met(lives: dict[str, Life]) -> None:
    undisturbed = lives["never"].points
    assert sorted(point for point in undisturbed if " " not in point) == AWS
    assert {point for point in undisturbed if " " in point} == CLUSTER
    for moment in ("before", "after"):
        kills = lives[moment].kills
        assert sorted(point for point in kills if " " not in point) == AWS
        assert {point for point in kills if " " in point} == CLUSTER
        assert kills.count("PATCH LustreVolume") == 2
        assert kills.count("PATCH status") >= 8, f"{moment}: {kills}"
