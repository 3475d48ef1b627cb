"""Fixtures of a real API server with the controllers of Jobs and Deployments, without nodes.

    pytest_plugins = ["tests.components.api_server"]

`cluster` is a namespace of its own under the restricted profile: pods that need more are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.api.cluster import until
from tests.components.played import Kubelet, Played

from penstock_components.kube import Kube
from penstock_local.controlplane import ControlPlane
from penstock_local.errors import LocalError


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ExitStack() as stack:
        started = _started(stack, tmp_path_factory)
        started.install_crds()
        yield started


def _started(stack: ExitStack, folders: pytest.TempPathFactory, tries: int = 4) -> ControlPlane:
    """Tried again: the kernel may give the port after etcd's to an outgoing connection before etcd takes it."""
    try:
        return stack.enter_context(ControlPlane(folders.mktemp("plane")))
    except LocalError as error:
        if tries == 1 or "address already in use" not in str(error):
            raise
        return _started(stack, folders, tries - 1)


@pytest.fixture
def cluster(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Played]:
    """A new namespace under the restricted profile; KUBECONFIG leads there."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**9}-{os.getpid()}"
    made = Played(plane.kubeconfig, name)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    made.call("POST", "/api/v1/namespaces", body)
    until(lambda: made.find("/api/v1/namespaces/{namespace}/serviceaccounts/default"), lambda: "no default service account")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    yield made
    made.close()


@pytest.fixture
def kube(cluster: Played) -> Kube:
    return Kube(cluster.namespace)


@pytest.fixture
def kubelet(plane: ControlPlane, cluster: Played) -> Iterator[Kubelet]:
    with Kubelet(plane, cluster) as running:
        yield running
