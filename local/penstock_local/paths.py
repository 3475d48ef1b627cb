"""Where things are kept: what is expensive to make in the cache, what belongs to a running cluster in the state folder.

Both are outside the checkout, so a fresh clone starts warm. The state holds containerd's overlay snapshots, which need a real
file system and room; /var/lib is where those live on any Linux, while a home folder may be on NFS.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """PENSTOCK_CACHE, else $XDG_CACHE_HOME/penstock, else ~/.cache/penstock."""
    if given := os.environ.get("PENSTOCK_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"


def state() -> Path:
    """PENSTOCK_STATE, else /var/lib/penstock."""
    return Path(os.environ.get("PENSTOCK_STATE") or "/var/lib/penstock")


def checkout() -> Path:
    """The root of the source tree this package is installed from (editable): Go modules and Dockerfiles are there."""
    return Path(__file__).resolve().parents[2]
