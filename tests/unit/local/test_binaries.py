"""Where programs come from: the cache by version, given ones, the toolchain."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from penstock_local import binaries
from penstock_local.errors import LocalError
from penstock_local.steps import Steps


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "cache"


def test_a_changed_go_mod_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.folder()
    copy = tmp_path / "kubernetes"
    for name in ("go.mod", "go.sum", "coredns/go.mod", "coredns/go.sum", "coredns/main.go"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((binaries.modules() / name).read_bytes())
    monkeypatch.setattr(binaries, "modules", lambda: copy)
    assert binaries.folder() == before
    (copy / "go.mod").write_text((copy / "go.mod").read_text() + "\n")
    assert binaries.folder() != before


def test_a_program_of_its_own_module_changes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, before = binaries.folder(), binaries.file_name("fsx-csi")
    copy = tmp_path / "kubernetes"
    shutil.copytree(binaries.modules(), copy)
    monkeypatch.setattr(binaries, "modules", lambda: copy)
    assert binaries.file_name("fsx-csi") == before
    (copy / "fsx-csi" / "node.go").write_text("package main // changed\n")
    assert binaries.file_name("fsx-csi") != before
    assert binaries.folder() == folder
    assert binaries.file_name("kubelet") == "kubelet"


def test_every_source_of_a_program_of_its_own_decides_its_name() -> None:
    for name, sources in binaries._ALONE.items():
        there = {path.name for path in (binaries.modules() / name).iterdir() if not path.name.endswith("_test.go")}
        assert there == set(sources)


def test_programs_that_are_there_are_not_built(cache: Path) -> None:
    folder = binaries.folder()
    folder.mkdir(parents=True)
    (folder / "etcd").touch()
    assert binaries.ensure(["etcd"], Steps(quiet=True)) == folder
    assert cache in folder.parents


def test_given_programs_are_used_and_do_not_mix_with_built_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = binaries.folder()
    given = tmp_path / "assets"
    given.mkdir()
    (given / "etcd").write_text("given")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given))
    folder = binaries.ensure(["etcd"], Steps(quiet=True))
    assert (folder / "etcd").read_text() == "given"
    assert folder != built
    assert not built.exists()


def test_a_given_folder_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", "/nowhere")
    with pytest.raises(LocalError, match="KUBEBUILDER_ASSETS is /nowhere"):
        binaries.folder()


def test_a_build_that_fails_shows_the_compilers_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'x.go:1: undefined: y' >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setattr(binaries, "toolchain", lambda: str(go))
    with pytest.raises(LocalError, match=r"etcd does not build.*\n.*undefined: y"):
        binaries.ensure(["etcd"], Steps(quiet=True))
    assert not (binaries.folder() / "etcd").exists()


def test_versions_are_compared_as_numbers() -> None:
    assert binaries._go_version("module x\n\ngo 1.26.0\n") == (1, 26, 0)
    assert (1, 26, 0) > binaries._go_version("go 1.9") == (1, 9, 0)
