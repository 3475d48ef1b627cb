"""What is missing on the machine is one error that names the packages."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from penstock_local import prerequisites
from penstock_local.errors import LocalError


def _machine(folder: Path, *programs: str) -> str:
    for name in programs:
        (folder / name).touch(mode=0o755)
    return str(folder)


def test_each_missing_program_is_named_by_its_package_once(tmp_path: Path) -> None:
    path = _machine(tmp_path, "nft", "socat", "ip", "nsenter", "unshare", "setpriv", "mount")
    plugins = tmp_path / "cni"
    assert prerequisites.missing(prerequisites.PACKAGES, [plugins], path) == [
        "conntrack",
        "containerd",
        "containernetworking-plugins",
        "runc",
    ]


def test_nothing_is_missing_where_all_is_there(tmp_path: Path) -> None:
    path = _machine(tmp_path, *prerequisites.PACKAGES)
    (tmp_path / "bridge").touch()
    assert prerequisites.missing(prerequisites.PACKAGES, [tmp_path], path) == []


def test_the_error_holds_the_command_that_installs_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(prerequisites, "missing", lambda programs: ["conntrack", "runc"])
    with pytest.raises(LocalError, match=r"apt-get install -y --no-install-recommends conntrack runc$"):
        prerequisites.check()


def test_another_system_is_pointed_to_a_cluster_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(LocalError, match=r"needs Linux; this is Darwin.*CLUSTER=current"):
        prerequisites.check()


def test_a_plain_user_is_told_to_be_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LocalError, match="root"):
        prerequisites.check()
