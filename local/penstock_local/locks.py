"""Locks between processes: on a file in the cache, given back by the kernel when the holder ends, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from penstock_local import paths
from penstock_local.steps import Steps


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock; `waiting` is called once when somebody else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def one_command(cluster: str, steps: Steps) -> AbstractContextManager[None]:
    """One command at a time on one cluster: a second waits and says so. In the cache, so that `down` leaves no lock behind."""
    path = paths.cache() / "locks" / f"{cluster}.lock"
    return locked(path, lambda: steps.say(f"waiting for another command on cluster {cluster}"))
