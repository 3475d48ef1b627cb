"""What a cluster may be asked to become."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from penstock_local.cluster import Cluster
from penstock_local.config import Config, is_free, read, settle, write
from penstock_local.errors import LocalError


def test_a_new_cluster_is_what_was_asked_for_or_two_nodes() -> None:
    assert settle("demo", None, Config(nodes=5)).nodes == 5
    assert settle("demo", None, None).nodes == 2


def test_an_existing_cluster_stays_what_it_is() -> None:
    kept = Config(nodes=3, port=4000)
    assert settle("demo", kept, None) == kept
    assert settle("demo", kept, Config(nodes=3)) == kept


def test_an_existing_cluster_grows_and_keeps_its_port() -> None:
    assert settle("demo", Config(nodes=1, port=4000), Config(nodes=3)) == Config(nodes=3, port=4000)


def test_an_existing_cluster_can_have_the_fake_aws_and_keeps_it_and_its_port() -> None:
    kept = Config(nodes=1, port=4000, aws=True, aws_port=4001)
    assert settle("demo", Config(nodes=1, port=4000), Config(nodes=1, aws=True)) == replace(kept, aws_port=0)
    assert settle("demo", kept, Config(nodes=1)) == kept
    with pytest.raises(LocalError, match="aws_port 4001, asked for 5"):
        settle("demo", kept, Config(nodes=1, aws_port=5))


@pytest.mark.parametrize(
    "asked", [Config(nodes=1), Config(gpus=4), Config(instance_type="g5.xlarge"), Config(port=5), Config(quick_failure=True)]
)
def test_any_other_change_needs_a_fresh_cluster(asked: Config) -> None:
    with pytest.raises(LocalError, match="penstock local reset --name demo"):
        settle("demo", Config(nodes=2, port=4000), asked)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 33])
def test_a_name_that_cannot_be_a_folder_and_a_cgroup_is_refused(name: str) -> None:
    with pytest.raises(LocalError, match="cluster name"):
        Cluster(name)


@pytest.mark.parametrize("nodes", [0, -1, 33])
def test_a_number_of_nodes_that_no_machine_carries_is_refused(nodes: int) -> None:
    with pytest.raises(LocalError, match="1 to 32"):
        settle("demo", None, Config(nodes=nodes))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert read(tmp_path / "demo") is None
    write(tmp_path / "demo", Config(nodes=3, gpus=1, port=7000))
    assert read(tmp_path / "demo") == Config(nodes=3, gpus=1, port=7000)


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not is_free(taken.getsockname()[1])


def test_zones_alternate_and_capacity_types_are_spelt_as_eks_does() -> None:
    shape = Config(capacity_type="on-demand").shape()
    assert [shape.labels(index)["topology.kubernetes.io/zone"][-1] for index in (1, 2, 3)] == ["a", "b", "a"]
    assert shape.labels(1)["eks.amazonaws.com/capacityType"] == "ON_DEMAND"
    assert shape.labels(1)["karpenter.sh/capacity-type"] == "on-demand"
