"""Which builder is taken, and what Docker is asked; a recording program stands in for the engine's command line."""

import stat
from pathlib import Path

import pytest

from penstock_local.images.catalogue import Image
from penstock_local.images.engine import Buildah, Docker, choose

IMAGE = Image(name="sample", dockerfile="trainer/Dockerfile", context=".", inputs=(), arguments={"VARIANT": "cpu"})


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("PENSTOCK_IMAGE_BUILDER", raising=False)
    return folder


def add_program(folder: Path, name: str, body: str = "exit 0") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_docker_builds_where_an_engine_answers(programs: Path, tmp_path: Path) -> None:
    for name in ("docker", "buildah", "mmdebstrap", "skopeo"):
        add_program(programs, name)
    assert isinstance(choose(tmp_path), Docker)


def test_buildah_builds_where_docker_has_no_engine(programs: Path, tmp_path: Path) -> None:
    add_program(programs, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    for name in ("buildah", "mmdebstrap", "skopeo"):
        add_program(programs, name)
    assert isinstance(choose(tmp_path), Buildah)


def test_the_user_decides_where_both_are_there(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("docker", "buildah", "mmdebstrap", "skopeo"):
        add_program(programs, name)
    monkeypatch.setenv("PENSTOCK_IMAGE_BUILDER", "buildah")
    assert isinstance(choose(tmp_path), Buildah)


def test_docker_gets_the_index_as_a_secret_and_not_as_an_argument(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, seen = tmp_path / "asked", tmp_path / "pip.conf"
    keep = f'while read -r line; do echo "$line"; done < "${{word#id=pip,src=}}" > {seen}'
    add_program(programs, "docker", f'echo "$@" >> {asked}\nfor word; do case $word in id=pip,src=*) {keep};; esac; done')
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@pypi.example.com/simple")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    Docker().build(IMAGE, tmp_path, log=tmp_path / "log", report=lambda line: None)
    words = asked.read_text()
    assert "build --progress plain --network host --secret id=pip,src=" in words
    assert "--build-arg http_proxy=http://proxy:3128" in words
    assert "--build-arg VARIANT=cpu" in words
    assert f"--tag docker.io/penstock/sample:0.1.0 --file {tmp_path}/trainer/Dockerfile {tmp_path}" in words
    assert "secret@" not in words
    assert "index-url = https://user:secret@pypi.example.com/simple" in seen.read_text()


def test_docker_saves_the_image_under_the_name_that_pods_use(programs: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    add_program(programs, "docker", f'echo "$@" >> {asked}')
    Docker().export(IMAGE, tmp_path / "x.tar", log=tmp_path / "log", report=lambda line: None)
    assert asked.read_text() == f"save --output {tmp_path}/x.tar docker.io/penstock/sample:0.1.0\n"
