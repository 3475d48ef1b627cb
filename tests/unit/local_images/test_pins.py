"""The pins: what ships and what is tested is exact, and the compiler that Horovod gets speaks C++20."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from penstock_local.images.catalogue import checkout

ROOT = checkout()
TRAINER = ROOT / "trainer"


def canonical(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def pins(path: Path) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return {canonical(line): line.split("==")[1] for line in lines if "==" in line}


@pytest.mark.parametrize("extra", ["operator", "components", "serving", "local", "fake-aws", "dev"])
def test_every_requirement_of_an_extra_is_pinned(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {canonical(each) for each in project["optional-dependencies"][extra]} - {"penstock"}
    pinned = pins(ROOT / "constraints.txt") | pins(TRAINER / "requirements-torch.txt") | pins(TRAINER / "requirements.txt")
    assert wanted <= set(pinned), f"constraints.txt lacks {sorted(wanted - set(pinned))}"


def test_no_package_is_pinned_in_two_places() -> None:
    files = [ROOT / "constraints.txt", *TRAINER.glob("requirements*.txt")]
    names = [name for file in files for name in pins(file)]
    assert sorted(names) == sorted(set(names))


def test_the_images_with_torch_begin_alike_so_that_they_share_its_layers() -> None:
    stages = [
        (ROOT / name / "Dockerfile").read_text().partition("ARG BASE=")[2].partition("FROM torch AS")[0]
        for name in ("trainer", "serving")
    ]
    assert "torch" in stages[0]
    assert stages[0] == stages[1]


def test_horovods_compiler_raises_the_standard_and_keeps_every_other_argument(tmp_path: Path) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    compiler.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [str(ROOT / "trainer" / "horovod" / "cxx20"), "-O3", "-g", "-std=c++14", '-DA="b c"', "-o", "x y.o"]
    given = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert given == ["-w", "-O3", "-std=c++20", '-DA="b c"', "-o", "x y.o"]
