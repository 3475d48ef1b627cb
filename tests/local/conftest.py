"""A real cluster of two nodes with a fake AWS for the tests here, and a small image whose pod tells what it sees.

PENSTOCK_TEST_CLUSTER names another cluster, for a second run beside the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.machine import alone

from penstock_local import binaries, oci
from penstock_local.cluster import Cluster, Config
from penstock_local.seeds import Archive

PROBE = "localhost/penstock-probe:1"
NAME = os.environ.get("PENSTOCK_TEST_CLUSTER", "test-local")

Eventually = Callable[..., Any]


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Call until the answer is true; on time-out fail with `state()`."""

    def wait(answer: Callable[[], Any], what: str, seconds: float = 30.0, state: Callable[[], object] = lambda: "") -> Any:
        deadline = time.monotonic() + seconds
        while not (found := answer()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what}\n{state()}")
            time.sleep(0.25)  # most answers are a kubectl, 60 ms of CPU
        return found

    return wait


@pytest.fixture
def still_machine() -> Iterator[None]:
    """Tests beside these bring no cluster up or down meanwhile."""
    with alone():
        yield


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The image `localhost/penstock-probe:1`."""
    folder = tmp_path_factory.mktemp("probe")
    made = folder / "root" / "probe"
    made.parent.mkdir()
    source = Path(__file__).parent / "probe" / "main.go"
    command = [binaries.toolchain(), "build", "-trimpath", "-ldflags=-s -w", "-o", str(made), str(source)]
    subprocess.run(command, env=binaries.build_environment(), check=True)
    oci.write_image(folder / "probe.tar", PROBE, made.parent, ["/probe"])
    return Archive.of(folder / "probe.tar")


@pytest.fixture(scope="session")
def cluster(probe: Archive) -> Iterator[Cluster]:
    """Two nodes that hold the probe; a silent node is noticed after 5 s. What an earlier, killed run left is removed first."""
    made = Cluster(NAME)
    try:
        with alone():
            made.down()
            made.up(Config(quick_failure=True), images={"probe": probe}, aws=True)
        eventually_ready = ("wait", "serviceaccount/default", "--for=create", "--timeout=30s")
        made.kubectl(*eventually_ready)
        yield made
    finally:
        with alone():
            made.down()


@pytest.fixture
def run_pod(cluster: Cluster) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a probe and wait until it is Ready; returns the pod. `container`: more of it. All are removed after the test."""
    made: list[tuple[str, str]] = []

    def run(
        name: str, *, namespace: str = "default", container: Mapping[str, Any] | None = None, ready: bool = True, **spec: Any
    ) -> dict[str, Any]:
        made.append((namespace, name))
        probe = {
            "name": "probe",
            "image": PROBE,
            "imagePullPolicy": "Never",
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            **(container or {}),
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [probe], **spec},
        }
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        if ready:
            cluster.kubectl("-n", namespace, "wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        found: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", "pod", name, "-o", "json"))
        return found

    yield run
    for namespace, name in made:
        cluster.kubectl("-n", namespace, "delete", "pod", name, "--ignore-not-found", "--wait=true", "--timeout=60s")
