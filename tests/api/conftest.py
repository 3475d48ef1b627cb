"""One real API server (with the controller manager, without nodes); a namespace and an operator for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.api.cluster import Cluster, Refused, until
from tests.api.operator_process import Operator

from penstock_local.controlplane import ControlPlane

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane")) as started:
        started.install_crds()
        yield started


@pytest.fixture
def cluster(plane: ControlPlane) -> Iterator[Cluster]:
    """A namespace with its default service account, without which pods are refused."""
    made = Cluster(plane.kubeconfig, f"test-{next(_numbers)}")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}}
    made.call("POST", "/api/v1/namespaces", body)
    until(lambda: has_account(made), lambda: "no default service account")
    yield made
    made.close()


def has_account(cluster: Cluster) -> bool:
    try:
        return bool(cluster.call("GET", "/api/v1/namespaces/{namespace}/serviceaccounts/default"))
    except Refused:
        return False


@pytest.fixture
def replica(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[str], Operator]]:
    """Makes operators that are not started yet."""
    made: list[Operator] = []

    def make(identity: str) -> Operator:
        made.append(Operator(cluster.kubeconfig, cluster.namespace, tmp_path, identity))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture
def operator(replica: Callable[[str], Operator]) -> Operator:
    """An operator that leads."""
    made = replica("operator-0")
    made.start_and_lead()
    return made
