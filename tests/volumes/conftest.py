"""One API server without nodes and one fake AWS; a namespace, a bucket and an operator for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.api.cluster import Cluster, until
from tests.api.conftest import has_account
from tests.api.operator_process import Operator
from tests.volumes.crashes import QUICK
from tests.volumes.storage import Storage

from penstock_local.aws import FakeAWS
from penstock_local.controlplane import ControlPlane

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane")) as started:
        started.install_crds()
        yield started


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAWS]:
    with FakeAWS(tmp_path_factory.mktemp("aws")) as started:
        started.control.configure({"fsx.createSeconds": 0.5, "fsx.associationSeconds": 0.2, "fsx.taskSeconds": 0.2})
        yield started


@pytest.fixture
def cluster(plane: ControlPlane) -> Iterator[Cluster]:
    made = Cluster(plane.kubeconfig, f"volumes-{next(_numbers)}")
    made.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}})
    until(lambda: has_account(made), lambda: "no default service account")
    yield made
    made.close()


@pytest.fixture
def storage(cluster: Cluster, aws: FakeAWS) -> Iterator[Storage]:
    aws.control.clear_faults()
    yield Storage(cluster, aws)
    aws.control.clear_faults()


@pytest.fixture
def replica(cluster: Cluster, aws: FakeAWS, tmp_path: Path) -> Iterator[Callable[[str], Operator]]:
    made: list[Operator] = []

    def make(identity: str) -> Operator:
        operator = Operator(cluster.kubeconfig, cluster.namespace, tmp_path, identity)
        operator.settings |= aws.environment() | QUICK
        made.append(operator)
        return operator

    yield make
    for each in made:
        each.kill()


@pytest.fixture
def operator(replica: Callable[[str], Operator]) -> Operator:
    made = replica("operator-0")
    made.start_and_lead()
    return made
