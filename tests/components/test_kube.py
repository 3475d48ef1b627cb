"""The client against a real API server: what it refuses, what it waits out, what it takes up again."""

from __future__ import annotations

import gc
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tests.api.cluster import until
from tests.components.played import Kubelet, Played, in_background

from penstock_components import adoption
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Refused
from penstock_components.logs import Follower, read_tail
from penstock_local.controlplane import ControlPlane

pytest_plugins = ["tests.components.api_server"]


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "t"}}, "data": data}


def test_objects_are_plain_dictionaries_all_the_way(kube: Kube) -> None:
    made = kube.create(config_map("one", a="1"))
    assert made["metadata"]["uid"]
    kube.apply(config_map("two", a="1"))
    kube.apply(config_map("two", a="2"))
    kube.patch("v1", "ConfigMap", "one", {"data": {"b": "2"}})
    assert [each["data"] for each in kube.select("v1", "ConfigMap", {"app": "t"})] == [{"a": "1", "b": "2"}, {"a": "2"}]
    assert kube.delete("v1", "ConfigMap", "one", made["metadata"]["uid"])
    assert not kube.delete("v1", "ConfigMap", "one")
    assert kube.get("v1", "ConfigMap", "one") is None


def test_an_object_made_again_under_a_name_is_not_deleted_by_the_old_uid(kube: Kube) -> None:
    old = kube.create(config_map("one"))
    kube.delete("v1", "ConfigMap", "one")
    kube.create(config_map("one"))
    assert not kube.delete("v1", "ConfigMap", "one", old["metadata"]["uid"])
    assert kube.get("v1", "ConfigMap", "one")


def test_an_unknown_field_is_refused_and_named(kube: Kube) -> None:
    job = {"apiVersion": "penstock.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"}}
    with pytest.raises(Refused, match="comand"):
        kube.create({**job, "spec": {"image": "x", "command": ["x"], "comand": ["x"]}})


def test_a_kind_without_its_crd_is_named(kube: Kube) -> None:
    assert kube.knows("penstock.dev/v1alpha1", "TrainingJob")
    assert not kube.knows("penstock.dev/v1alpha1", "Nonsense")
    assert not kube.knows("nowhere.dev/v1", "TrainingJob")
    with pytest.raises(ComponentError, match="does not know Nonsense"):
        kube.get("penstock.dev/v1alpha1", "Nonsense", "a")


def test_a_missing_right_says_who_needs_which(
    cluster: Played, plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    token = cluster.call("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    path = str(tmp_path / "kubeconfig")
    shutil.copy(plane.kubeconfig, path)
    plane.kubectl(f"--kubeconfig={path}", "config", "set-credentials", "pod", f"--token={token['status']['token']}")
    context = ("--current", "--user=pod", f"--namespace={cluster.namespace}")
    plane.kubectl(f"--kubeconfig={path}", "config", "set-context", *context)
    monkeypatch.setenv("KUBECONFIG", path)
    limited = Kube()
    assert limited.namespace == cluster.namespace
    with pytest.raises(Refused, match=r"cannot create resource \"configmaps\".*bind a Role") as caught:
        limited.create(config_map("one"))
    assert caught.value.status == 403


def test_no_way_into_a_cluster_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ComponentError, match="set KUBECONFIG"):
        Kube()


def test_following_shows_every_change_and_the_end(kube: Kube) -> None:
    kube.create(config_map("one", a="0"))
    seen = []
    for found in kube.follow("v1", "ConfigMap", "one", tick=20):
        if found is None:
            break
        seen.append(found["data"]["a"])
        if seen[-1] == "3":
            kube.delete("v1", "ConfigMap", "one")
        else:
            kube.patch("v1", "ConfigMap", "one", {"data": {"a": str(int(seen[-1]) + 1)}})
    assert seen == ["0", "1", "2", "3"]
    assert list(kube.follow("v1", "ConfigMap", "one")) == [None]


def test_following_an_object_that_does_not_change_gives_the_caller_its_clock(kube: Kube) -> None:
    kube.create(config_map("one", a="0"))
    times = []
    for _ in kube.follow("v1", "ConfigMap", "one", tick=1):
        times.append(time.monotonic())
        if len(times) == 3:
            break
    assert all(0.5 < later - earlier < 5 for earlier, later in pairwise(times))


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_following_goes_on_after_the_api_server_was_away(kube: Kube, plane: ControlPlane) -> None:
    kube.create(config_map("one", a="0"))
    seen: list[str] = []

    def follow() -> None:
        for found in kube.follow("v1", "ConfigMap", "one", tick=20):
            assert found is not None
            seen.append(found["data"]["a"])
            if seen[-1] == "1":
                return

    with in_background(follow) as following:
        until(lambda: seen, lambda: seen)
        plane.kill("kube-apiserver")
        plane.start("kube-apiserver")
        plane.wait_ready()
        kube.patch("v1", "ConfigMap", "one", {"data": {"a": "1"}})
        following.result(60)
    gc.collect()  # ssl itself leaves a socket open that is reset just before its handshake; it would be told in another test


def test_a_log_is_followed_through_cuts_without_a_line_twice_or_lost(kube: Kube, cluster: Played, kubelet: Kubelet) -> None:
    lines: list[str] = []
    pod = kubelet.run("one")
    follower = Follower(kube, write=lines.append, pause=0.05)
    kubelet.write("one", "a", "b")
    follower.follow("one")
    until(lambda: len(lines) == 2, lambda: lines)
    kubelet.cut()
    kubelet.write("one", "c")
    until(lambda: len(lines) == 3, lambda: lines)
    kubelet.write("one", "d")
    kubelet.end("one")
    cluster.pod_ends(pod)
    until(lambda: len(lines) == 4, lambda: lines)
    follower.finish()
    assert lines == ["one | a", "one | b", "one | c", "one | d"]
    assert follower.tail("one") == ["a", "b", "c", "d"]
    assert any(query.get("sinceTime") for query in kubelet.asked)


def test_a_chatty_program_fills_neither_log_nor_memory(kube: Kube, cluster: Played, kubelet: Kubelet) -> None:
    lines: list[str] = []
    pod = kubelet.run("one")
    kubelet.write("one", *(str(number) for number in range(500)), "x" * 100_000)
    kubelet.end("one")
    cluster.pod_ends(pod)
    follower = Follower(kube, lines=10, write=lines.append)
    follower.follow("one")
    follower.finish(20)
    assert lines[:10] == [f"one | {number}" for number in range(10)]
    assert "kubectl logs one" in lines[10]
    assert len(lines) == 11
    assert len(follower.tail("one")) == 50
    assert len(follower.tail("one")[-1]) < 9000
    assert read_tail(kube, "one", lines=3)[:2] == ["498", "499"]


def test_the_log_of_a_pod_without_a_node_is_empty_not_an_error(kube: Kube) -> None:
    assert read_tail(kube, "nobody") == []


def test_whole_floats_become_integers_everywhere() -> None:
    assert adoption.plain({"a": 2.0, "b": [{"c": 0.5, "d": True}]}) == {"a": 2, "b": [{"c": 0.5, "d": True}]}
