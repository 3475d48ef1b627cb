"""The machine-wide sysctls that every kubelet sets for itself: remembered before the first cluster, put back after the last."""

from __future__ import annotations

import json
from pathlib import Path

NAMES = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
_ROOT = Path("/proc/sys")


def remember(state: Path) -> None:
    """Save the values unless a cluster that is up has saved them."""
    saved = state / "sysctls.json"
    if not saved.exists():
        state.mkdir(parents=True, exist_ok=True)
        saved.write_text(json.dumps({name: (_ROOT / name).read_text().strip() for name in NAMES}))


def restore(state: Path) -> None:
    """Put the values back and forget them."""
    saved = state / "sysctls.json"
    if saved.exists():
        for name, value in json.loads(saved.read_text()).items():
            (_ROOT / name).write_text(value)
        saved.unlink()
