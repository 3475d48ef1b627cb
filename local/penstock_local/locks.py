"""One command at a time on one cluster: a second waits and says so. The lock is in the cache, so `down` leaves none behind."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from penstock_local import paths
from penstock_local.steps import Steps


@contextmanager
def locked(cluster: str, steps: Steps) -> Iterator[None]:
    """Hold the cluster's lock; the kernel frees it when this process ends, however it ends."""
    folder = paths.cache() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{cluster}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.say(f"waiting for another command on cluster {cluster}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
