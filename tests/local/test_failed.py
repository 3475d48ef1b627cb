"""A cluster that does not start: it is removed, and its logs stay where the error says, until the next `up` or `down`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_local import failed, paths
from penstock_local.cli import main
from penstock_local.cluster import Cluster, Config, clusters
from penstock_local.errors import LocalError


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "cache"))


def _log(cluster: Path, name: str, text: str = "why") -> Path:
    log = cluster / name
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


@pytest.mark.usefixtures("empty_machine")
def test_logs_of_the_host_the_machines_and_the_pods_are_kept_and_the_error_names_their_new_places() -> None:
    cluster = paths.state() / "first"
    kubelet = _log(cluster, "node1/log/kubelet.log")
    others = [_log(cluster, name) for name in ("log/forward.log", "node1/varlog/pods/kube-system_coredns-1_a/coredns/0.log")]
    _log(cluster, "node1/containerd/snapshot/log/big.log")
    moved = failed.keep("first", cluster)
    assert set(moved) == {kubelet, *others}
    words = failed.told(f"the kubelet of node1 ended. The end of {kubelet}:\nwhy", "first", moved)
    assert words.splitlines() == [
        f"the kubelet of node1 ended. The end of {failed.folder('first')}/node1/log/kubelet.log:",
        "why",
        f"The new cluster is removed; its logs are in {failed.folder('first')}",
    ]
    assert (failed.folder("first") / "node1/log/kubelet.log").read_text() == "why"
    assert failed.told("no log yet", "first", {}) == "no log yet"


@pytest.mark.usefixtures("empty_machine")
def test_the_next_failure_replaces_the_logs_of_its_name_only() -> None:
    for name, log in (("first", "log/old.log"), ("second", "log/old.log"), ("first", "log/new.log")):
        _log(paths.state() / name, log)
        failed.keep(name, paths.state() / name)
    kept = {name: [log.name for log in failed.folder(name).rglob("*.log")] for name in ("first", "second")}
    assert kept == {"first": ["new.log"], "second": ["old.log"]}


@pytest.mark.usefixtures("empty_machine")
def test_down_of_a_name_with_logs_only_leaves_nothing_and_those_of_another_name_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("first", "second"):
        _log(failed.folder(name), "node1/log/kubelet.log")
    assert clusters() == []
    main(["local", "down", "--name", "first"])
    assert not failed.folder("first").exists()
    assert failed.folder("second").exists()
    main(["local", "down", "--name", "second"])
    assert not paths.state().exists()
    assert "there is no cluster" not in capsys.readouterr().err


@pytest.fixture
def new(cluster: Cluster, still_machine: None) -> Iterator[Cluster]:
    """A name that no cluster has, beside a cluster that is up."""
    made = Cluster(f"{cluster.name}-failed")
    made.down()
    yield made
    made.down()


@pytest.mark.e2e
def test_a_new_cluster_whose_kubelet_does_not_start_leaves_its_logs_until_an_up_that_succeeds(new: Cluster) -> None:
    no_label = Config(nodes=1, instance_type="p4d.24xlarge,kubernetes.io/no-label-of-a-kubelet")
    with pytest.raises(LocalError, match="the kubelet of node1 ended") as error:
        new.up(no_label)
    named = re.search(r"The end of (\S+kubelet\.log)", str(error.value))
    assert named is not None, error.value
    assert Path(named[1]).read_text()
    assert str(error.value).endswith(f"its logs are in {failed.folder(new.name)}")
    assert {"etcd.log", "kube-apiserver.log", "containerd.log"} <= {log.name for log in failed.folder(new.name).rglob("*.log")}
    assert not new.folder.exists()
    assert new.name not in clusters()
    new.up(Config(nodes=1))
    assert not failed.folder(new.name).exists()
