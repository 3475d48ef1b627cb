"""`python3 local/environment.py FOLDER EXTRAS [--torch]`: a Python environment with these extras, the checkout itself editable.

The packages are installed once for each set of requirements and kept in the cache; FOLDER gets them as hard links. Three
environments are six minutes of pip on one core, most of it compiling, and a second checkout has them in seconds. As with uv, an
installed file that is edited in place is edited for all: `rm -r ~/.cache/penstock/python` begins anew. Runs before anything is
installed: of the project it imports only what needs the standard library alone.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from penstock_local import paths
from penstock_local.locks import locked

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ["constraints.txt", "trainer/requirements.txt", "trainer/requirements-torch.txt"]
THINNER = "trainer/keep-loaded-libraries"
UNUSED = 14 * 86400  # seconds after which what no checkout asked for goes


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a Python environment of the project.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("extras")
    parser.add_argument("--torch", action="store_true", help="with torch, without what only a GPU loads")
    asked = parser.parse_args()
    cache = paths.cache() / "python"
    name = asked.folder.name.lstrip(".")
    kept = cache / f"{name}-{key(asked.extras, asked.torch)}"
    with locked(cache / f"{name}.lock", lambda: print(f"waiting for another {asked.folder} that is made")):
        if not (kept / ".complete").exists():
            install(kept, asked.extras, asked.torch)
            (kept / ".complete").touch()
        kept.touch()  # used now
        for old in cache.glob(f"{name}-{'?' * 16}"):
            if time.time() - old.stat().st_mtime > UNUSED:
                shutil.rmtree(old)
        link(kept, asked.folder.absolute())
    pip(asked.folder, "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    (asked.folder / ".ready").touch()


def key(extras: str, torch: bool) -> str:
    """Of everything that decides what gets installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    facts = [
        sys.version,
        sys.executable,
        extras,
        torch,
        project["build-system"],
        project["project"],
        inspect.getsource(install),
    ]
    texts = [(ROOT / each).read_text() for each in [*CONSTRAINTS, THINNER]]
    return hashlib.sha256(json.dumps([*facts, *texts]).encode()).hexdigest()[:16]


def install(folder: Path, extras: str, torch: bool) -> None:
    """The packages that these extras ask for, without the project."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    if torch:
        pip(folder, "install", "--no-deps", "--requirement", str(ROOT / CONSTRAINTS[-1]))
        (packages,) = folder.glob("lib/python3.*/site-packages")
        subprocess.run([ROOT / THINNER, packages], check=True)
    constraint = ["--constraint", str(ROOT / CONSTRAINTS[0])]
    pip(folder, "install", *constraint, "hatchling", "editables", "--editable", f"{ROOT}[{extras}]")
    pip(folder, "uninstall", "--yes", "penstock")


def link(kept: Path, folder: Path) -> None:
    """Put `kept` at `folder`, in place of what is there; what names its own place names the new one."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder, symlinks=True, copy_function=_link)
    for path in [folder / "pyvenv.cfg", *(folder / "bin").iterdir()]:
        if path.is_symlink() or not path.is_file() or str(kept).encode() not in (text := path.read_bytes()):
            continue
        mode = path.stat().st_mode
        path.unlink()  # a new file, not a change of the one in the cache
        path.write_bytes(text.replace(str(kept).encode(), str(folder).encode()))
        path.chmod(mode)
    (folder / ".complete").unlink()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the cache is on another file system
        shutil.copy2(source, target)


def pip(folder: Path, *arguments: str) -> None:
    subprocess.run([folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


if __name__ == "__main__":
    main()
