"""What stays of a cluster whose first `up` failed: its logs, which tell why. The cluster itself is removed."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from penstock_local import paths

# Of the host, of the machines, and of the pods: CoreDNS says only there what it lacks.
_LOGS = ("log/*.log", "*/log/*.log", "*/varlog/pods/*/*/*.log")
_FOLDER = "failed_up"  # no cluster can have this name


def folder(name: str) -> Path:
    """Where the logs of the cluster `name` stay."""
    return paths.state() / _FOLDER / name


def keep(name: str, cluster: Path) -> dict[Path, Path]:
    """Move the logs out of the cluster's folder, instead of those of an earlier failure; returns from where to where."""
    shutil.rmtree(folder(name), ignore_errors=True)
    moved = {}
    for log in sorted(one for pattern in _LOGS for one in cluster.glob(pattern)):
        moved[log] = folder(name) / log.relative_to(cluster)
        moved[log].parent.mkdir(parents=True, exist_ok=True)
        log.rename(moved[log])
    return moved


def told(words: str, name: str, moved: dict[Path, Path]) -> str:
    """The error's words, with the logs' new places."""
    for before, now in moved.items():
        words = words.replace(str(before), str(now))
    return f"{words}\nThe new cluster is removed; its logs are in {folder(name)}" if moved else words


def forget(name: str) -> None:
    """Remove the logs, and the folders above them if nothing else is there."""
    shutil.rmtree(folder(name), ignore_errors=True)
    for above in (folder(name).parent, paths.state()):
        with contextlib.suppress(OSError):
            above.rmdir()
