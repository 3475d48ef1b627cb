"""The machine that clusters of several test runs share."""

from __future__ import annotations

from contextlib import AbstractContextManager

from penstock_local import paths
from penstock_local.locks import locked


def alone() -> AbstractContextManager[None]:
    """Held by a test that compares the whole machine before and after, and by others that make or remove a cluster."""
    return locked(paths.cache() / "locks" / "tests-of-the-machine.lock", lambda: None)
