"""The control plane alone, as API tests and benchmarks use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_local.controlplane import ControlPlane
from penstock_local.errors import LocalError
from penstock_local.processes import start_time

pytestmark = pytest.mark.api


def test_it_serves_comes_back_after_a_kill_and_ends_with_its_block(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as plane:
        plane.kubectl("create", "configmap", "kept", "--from-literal=a=b")
        for component in ("kube-apiserver", "etcd"):
            plane.kill(component)
        with pytest.raises(LocalError, match="refused"):
            plane.kubectl("get", "configmap", "kept")
        for component in ("etcd", "kube-apiserver"):
            plane.start(component)
        plane.wait_ready()
        # One that still waited for its first API server gave up after 10 s; starting a live one does nothing.
        plane.start("kube-controller-manager")
        assert "kept" in plane.kubectl("get", "configmap", "kept", "-o", "name")
        pids = [pid for name in ("etcd", "kube-apiserver", "kube-controller-manager") if (pid := plane.pid(name))]
        assert len(pids) == 3
    assert [pid for pid in pids if start_time(pid) is not None] == []


def test_two_of_them_run_side_by_side(tmp_path: Path) -> None:
    parts = ("etcd", "kube-apiserver")
    with ControlPlane(tmp_path / "a", parts) as first, ControlPlane(tmp_path / "b", parts) as second:
        assert first.server != second.server
        first.kubectl("create", "namespace", "mine")
        assert "mine" not in second.kubectl("get", "namespaces", "-o", "name")


def test_its_processes_die_with_a_killed_parent(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    program = f"""
import pathlib, signal
from penstock_local.controlplane import ControlPlane
with ControlPlane(pathlib.Path({str(tmp_path)!r}), ("etcd", "kube-apiserver")) as plane:
    print(plane.pid("etcd"), plane.pid("kube-apiserver"), flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(one) for one in parent.stdout.readline().split()]
        assert len(pids) == 2
        os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: all(start_time(pid) is None for pid in pids), "etcd and kube-apiserver gone", 10)
