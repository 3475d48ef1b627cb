"""Images for new nodes without importing them again: one containerd root in the cache, hard-linked into each node.

An import unpacks gigabytes and takes a minute and more; layers are read-only lower directories of overlayfs, so their files can
be shared by hard link, and only containerd's two small databases are copied. A seed holds a set of images and is named by their
digests. A new set is made from the seed that has most of it by importing only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock_local import paths
from penstock_local.errors import LocalError
from penstock_local.images import ImagesError
from penstock_local.images.store import identity
from penstock_local.imports import import_archive
from penstock_local.locks import locked
from penstock_local.processes import Daemon
from penstock_local.steps import Steps

# A training image takes gigabytes. What the newest shares with the one before takes no room of its own.
_KEPT = 2
_DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")


@dataclass(frozen=True, slots=True)
class Archive:
    """An OCI archive to import and the digest that stands for its content; `reference`: what containerd calls it, if known."""

    path: Path
    digest: str
    reference: str = ""

    @staticmethod
    def of(path: Path) -> Archive:
        """With the digest and the name that stand in the archive.

        Raises:
            LocalError: the file is no image archive.
        """
        try:
            return Archive(path, *identity(path))
        except (tarfile.TarError, ImagesError) as error:
            raise LocalError(f"{path} is no image archive (OCI or docker-save)") from error


def ensure(images: Mapping[str, Archive], steps: Steps) -> Path:
    """A containerd root that holds all these images."""
    home = paths.cache() / "seeds"
    wanted = {name: one.digest for name, one in images.items()}
    with locked(home / "lock", lambda: steps.say("waiting for images that another cluster unpacks")):
        for left in home.glob("partial-*"):  # of a run that was killed; nobody else is here under the lock
            shutil.rmtree(left, ignore_errors=True)
        older = sorted((one for one in home.iterdir() if (one / "images.json").exists()), key=lambda one: one.stat().st_mtime)
        held = {one: json.loads((one / "images.json").read_text()) for one in older}
        base = nearest(wanted, held, {name: one.path.stat().st_size for name, one in images.items()})
        known = held[base] if base is not None else {}
        fresh = {name: one for name, one in images.items() if known.get(name) != one.digest}
        if base is not None and not fresh:
            os.utime(base)
            return base / "root"
        partial = Path(tempfile.mkdtemp(dir=home, prefix="partial-"))
        try:
            if base is not None:
                copy(base / "root", partial / "root")
            with steps.step(f"unpack {', '.join(fresh)} for the nodes"):
                _import(partial, [one.path for one in fresh.values()])
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        # What the base held of other names is held here too.
        holds = {**known, **wanted}
        (partial / "images.json").write_text(json.dumps(holds))
        seed = home / hashlib.sha256(json.dumps(holds, sort_keys=True).encode()).hexdigest()[:16]
        shutil.rmtree(seed, ignore_errors=True)
        partial.rename(seed)
        for one in older[: -(_KEPT - 1)]:
            shutil.rmtree(one, ignore_errors=True)
        return seed / "root"


def nearest(wanted: Mapping[str, str], held: Mapping[Path, Mapping[str, str]], sizes: Mapping[str, int]) -> Path | None:
    """The seed that leaves the fewest bytes to import, among equals the last; None when none has any of the images."""
    best, most = None, 1
    for seed, images in held.items():
        shared = sum(sizes[name] for name, digest in wanted.items() if images.get(name) == digest)
        if shared >= most:
            best, most = seed, shared
    return best


def copy(root: Path, target: Path) -> None:
    """Give a node its containerd root: hard links, and databases of its own. The target appears whole or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if subprocess.run(["cp", "-al", str(root), str(partial)], capture_output=True).returncode != 0:
        # Another file system: a real copy then.
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(root), str(partial)], check=True)
    for name in _DATABASES:
        if (root / name).exists():
            (partial / name).unlink()
            shutil.copy2(root / name, partial / name)
    partial.rename(target)


def _import(folder: Path, archives: list[Path]) -> None:
    """Run a containerd of our own on this root for as long as the imports take."""
    socket, config = folder / "containerd.sock", folder / "containerd.toml"
    config.write_text(
        f"version = 2\nroot = '{folder}/root'\nstate = '{folder}/state'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n"
        f"[grpc]\n  address = '{socket}'\n[plugins.'io.containerd.internal.v1.opt']\n  path = '{folder}/opt'\n"
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
            import_archive(ctr, archive)
    finally:
        daemon.stop(seconds=10)
    for name in ("state", "log", "pid", "opt"):
        shutil.rmtree(folder / name, ignore_errors=True)
    config.unlink()
    socket.unlink(missing_ok=True)
