"""One real API server for the session, with what these tests look at switched on: an audit log of what service accounts ask
for, and the admission that checks blockOwnerDeletion. The chart is installed in it once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.manifests.tools import CHART, CRD_NAMES, NAMESPACE, Tools

from penstock_local.controlplane import ControlPlane
from penstock_local.readiness import wait_crds

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("plane")
    (folder / "audit.yaml").write_text(json.dumps(AUDIT_POLICY))
    flags = [
        f"--audit-policy-file={folder}/audit.yaml",
        f"--audit-log-path={folder}/audit.log",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    ]
    with ControlPlane(folder, apiserver_flags=flags) as started:
        yield started


@pytest.fixture(scope="session")
def audit_log(plane: ControlPlane) -> Path:
    """One JSON object a line: every request of a service account, with its answer."""
    return plane.folder / "audit.log"


@pytest.fixture(scope="session")
def tools(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return Tools(plane.kubeconfig, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def installed(tools: Tools) -> Tools:
    """The chart with its default values, as the documentation installs it."""
    tools.namespace(NAMESPACE)
    tools.helm("install", "penstock", str(CHART), f"--namespace={NAMESPACE}")
    wait_crds(tools.kubectl, *CRD_NAMES)
    return tools


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """A second API server, without Penstock, for tests that install and remove it themselves. Without controllers."""
    folder = tmp_path_factory.mktemp("bare")
    with ControlPlane(folder / "plane", components=("etcd", "kube-apiserver")) as started:
        yield Tools(started.kubeconfig, folder)
