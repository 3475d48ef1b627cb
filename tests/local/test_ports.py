"""The port of the API server on this machine: the one that was asked for, or an error that leaves things as they were."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_local import failed, paths
from penstock_local.cli import main
from penstock_local.cluster import Cluster, Config, clusters
from penstock_local.config import is_free
from penstock_local.controlplane import free_ports
from penstock_local.errors import LocalError
from penstock_local.seeds import Archive

pytestmark = pytest.mark.e2e


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_ports(1)[0]))
        other.listen()
        yield other.getsockname()[1]


def _refused(action: str, name: str, port: int) -> str:
    with pytest.raises(SystemExit) as end:
        main(["local", action, "--name", name, "--port", str(port)])
    return str(end.value.code)


@pytest.mark.usefixtures("still_machine")
def test_a_new_cluster_whose_port_is_taken_is_refused_and_nothing_is_made(taken: int) -> None:
    before = sorted(paths.state().glob("*"))
    assert f"port {taken} of 127.0.0.1 is taken by another program" in _refused("up", "never-made", taken)
    assert sorted(paths.state().glob("*")) == before


def test_a_reset_to_a_port_that_is_taken_is_refused_and_the_cluster_stays(cluster: Cluster, taken: int) -> None:
    before = {name: daemon.pid() for name, daemon in cluster.daemons().items()}
    assert f"port {taken} of 127.0.0.1 is taken by another program" in _refused("reset", cluster.name, taken)
    assert {name: daemon.pid() for name, daemon in cluster.daemons().items()} == before


def test_up_with_the_port_that_the_cluster_has_is_no_error_and_with_another_one_says_what_to_do(cluster: Cluster) -> None:
    cluster.up(Config(quick_failure=True, port=cluster.config.port))
    with pytest.raises(LocalError, match=rf"has port {cluster.config.port}, asked for .*penstock local reset"):
        cluster.up(Config(quick_failure=True, port=free_ports(1)[0]))


def test_a_cluster_that_did_not_ask_for_its_port_moves_when_that_is_taken_and_one_that_asks_does_not(cluster: Cluster) -> None:
    port = cluster.config.port
    cluster.kill("host/forward")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        assert f"port {port} of 127.0.0.1 is taken" in _refused("up", cluster.name, port)
        cluster.up()
    assert cluster.config.port != port
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.usefixtures("still_machine")
def test_what_fails_after_its_beginning_leaves_nothing_of_a_new_cluster_either(cluster: Cluster, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_text("no tar")
    new, port = Cluster(f"{cluster.name}-new"), free_ports(1)[0]
    before, seeds = clusters(), sorted((paths.cache() / "seeds").glob("partial-*"))
    with pytest.raises(LocalError, match="cannot be imported"):
        new.up(Config(nodes=1, port=port), images={"broken": Archive(broken, "sha256:of-nothing")})
    new.down()
    assert not new.folder.exists()
    assert not failed.folder(new.name).exists()
    assert clusters() == before
    assert sorted((paths.cache() / "seeds").glob("partial-*")) == seeds
    assert is_free(port)
