"""Environments of checkouts are links to one that is kept."""

from __future__ import annotations

import errno
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "local" / "environment.py"


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    (folder / "bin" / "__pycache__").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "lib" / "library.py").write_text("library")
    (folder / "bin" / "tool").write_text(f"#!{folder}/bin/python\n")
    (folder / "bin" / "tool").chmod(0o755)
    (folder / "bin" / "python").symlink_to("/usr/bin/env")
    (folder / "pyvenv.cfg").write_text(f"command = python -m venv {folder}\n")
    (folder / ".complete").touch()
    return folder


def test_programs_of_a_linked_environment_run_in_it_and_the_kept_one_stays_as_it_is(
    environment: ModuleType, kept: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    environment.link(kept, mine)
    assert (mine / "bin" / "tool").read_text() == f"#!{mine}/bin/python\n"
    assert os.access(mine / "bin" / "tool", os.X_OK)
    assert (mine / "pyvenv.cfg").read_text() == f"command = python -m venv {mine}\n"
    assert (mine / "bin" / "python").readlink() == Path("/usr/bin/env")
    assert (mine / "lib" / "library.py").samefile(kept / "lib" / "library.py")
    assert not (mine / ".complete").exists()
    assert (kept / "bin" / "tool").read_text() == f"#!{kept}/bin/python\n"
    assert (kept / ".complete").exists()


def test_what_was_there_before_is_gone(environment: ModuleType, kept: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "lib").mkdir(parents=True)
    (mine / "lib" / "old.py").touch()
    environment.link(kept, mine)
    assert [each.name for each in (mine / "lib").iterdir()] == ["library.py"]


def test_across_file_systems_the_packages_are_copied(
    environment: ModuleType, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link", source, None, target)

    monkeypatch.setattr(os, "link", refuse)
    environment.link(kept, tmp_path / "mine")
    assert (tmp_path / "mine" / "lib" / "library.py").read_text() == "library"
    assert not (tmp_path / "mine" / "lib" / "library.py").samefile(kept / "lib" / "library.py")


def test_an_environment_is_kept_for_its_extras_and_its_constraints(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = environment.key("dev", False)
    assert environment.key("dev", False) == known
    assert environment.key("serving", False) != known
    assert environment.key("dev", True) != known
    for file in [*environment.CONSTRAINTS, environment.THINNER, "pyproject.toml"]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes((SCRIPT.parents[1] / file).read_bytes())
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.key("dev", False) == known
    with (tmp_path / "trainer" / "requirements.txt").open("a") as file:
        file.write("numpy==0\n")
    assert environment.key("dev", False) != known


def test_an_environment_whose_making_broke_off_is_made_again_and_a_whole_one_is_not(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def install(folder: Path, extras: str, torch: bool) -> None:
        made.append(folder)
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "pyvenv.cfg").touch()
        if len(made) == 1:
            raise KeyboardInterrupt

    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environment, "key", lambda extras, torch: "0" * 16)
    monkeypatch.setattr(environment, "install", install)
    monkeypatch.setattr(environment, "pip", lambda folder, *arguments: None)
    monkeypatch.setattr("sys.argv", ["environment.py", str(tmp_path / ".venv"), "dev"])
    unused, used, other = (tmp_path / "cache" / "python" / name for name in (f"venv-{'1' * 16}", f"venv-{'2' * 16}", "venv-x"))
    for folder in (unused, used, other):
        folder.mkdir(parents=True)
    for folder in (unused, other):
        os.utime(folder, (0, 0))
    with pytest.raises(KeyboardInterrupt):
        environment.main()
    assert not (tmp_path / ".venv" / ".ready").exists()
    environment.main()
    environment.main()
    assert len(made) == 2
    assert (tmp_path / ".venv" / ".ready").exists()
    assert [folder.exists() for folder in (unused, used, other)] == [False, True, True]
