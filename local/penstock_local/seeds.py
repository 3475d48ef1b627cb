"""Images for new nodes without importing them again: one containerd root in the cache, hard-linked into each node.

An import unpacks gigabytes and takes a minute and more; layers are read-only lower directories of overlayfs, so their files can
be shared by hard link, and only containerd's two small databases are copied. A seed holds a set of images and is named by their
digests. A new set is made from the newest seed by importing only what changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock_local import paths
from penstock_local.errors import LocalError
from penstock_local.processes import Daemon
from penstock_local.steps import Steps

_DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")


@dataclass(frozen=True, slots=True)
class Archive:
    """An OCI archive to import and the digest that stands for its content."""

    path: Path
    digest: str

    @staticmethod
    def of(path: Path) -> Archive:
        """For archives whose name changes with their content (size and time are enough to tell a new one)."""
        stat = path.stat()
        return Archive(path, f"{path.name}-{stat.st_size}-{stat.st_mtime_ns}")


def ensure(images: Mapping[str, Archive], steps: Steps) -> Path:
    """A containerd root that holds all these images."""
    home = paths.cache() / "seeds"
    home.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(json.dumps({name: one.digest for name, one in sorted(images.items())}).encode()).hexdigest()[:16]
    seed = home / key
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (seed / "images.json").exists():
            os.utime(seed)
            return seed / "root"
        older = sorted((one for one in home.iterdir() if (one / "images.json").exists()), key=lambda one: one.stat().st_mtime)
        partial = Path(tempfile.mkdtemp(dir=home, prefix="partial-"))
        known: dict[str, str] = {}
        if older:
            known = json.loads((older[-1] / "images.json").read_text())
            copy(older[-1] / "root", partial / "root")
        fresh = {name: one for name, one in images.items() if known.get(name) != one.digest}
        with steps.step(f"unpack {', '.join(fresh) or 'nothing new'} for the nodes"):
            _import(partial, [one.path for one in fresh.values()])
        (partial / "images.json").write_text(json.dumps({name: one.digest for name, one in images.items()}))
        partial.rename(seed)
        for one in older[:-1]:  # the two newest stay: another checkout may use the other
            shutil.rmtree(one, ignore_errors=True)
    return seed / "root"


def copy(root: Path, target: Path) -> None:
    """Give a node its containerd root: hard links, and databases of its own."""
    result = subprocess.run(["cp", "-al", str(root), str(target)], capture_output=True, text=True)
    if result.returncode != 0:  # another file system: then it is a real copy
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(root), str(target)], check=True)
    for name in _DATABASES:
        if (root / name).exists():
            (target / name).unlink()
            shutil.copy2(root / name, target / name)


def _import(folder: Path, archives: list[Path]) -> None:
    """Run a containerd of our own on this root for as long as the imports take."""
    socket, config = folder / "containerd.sock", folder / "containerd.toml"
    disabled = "disabled_plugins = ['io.containerd.grpc.v1.cri']\n"
    config.write_text(
        f"version = 2\nroot = '{folder}/root'\nstate = '{folder}/state'\n{disabled}[grpc]\n  address = '{socket}'\n"
    )
    daemon = Daemon(folder, "containerd")
    daemon.start(["containerd", "--config", str(config)], die_with_parent=True)
    ctr = ["ctr", "-a", str(socket), "-n", "k8s.io"]
    try:
        deadline = time.monotonic() + 20
        while subprocess.run([*ctr, "version"], capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise LocalError(f"containerd does not answer:\n{daemon.tail()}")
            time.sleep(0.05)
        for archive in archives:
            result = subprocess.run([*ctr, "images", "import", str(archive)], capture_output=True, text=True)
            if result.returncode != 0:
                raise LocalError(f"{archive} cannot be imported: {result.stderr.strip()}")
    finally:
        daemon.stop(seconds=10)
    for name in ("state", "log", "pid"):
        shutil.rmtree(folder / name, ignore_errors=True)
    config.unlink()
    socket.unlink(missing_ok=True)
