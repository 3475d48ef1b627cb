"""What the machine must bring, checked all at once: one error that names every missing package and the command to get them."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path

from penstock_local.errors import LocalError
from penstock_local.processes import search_path

PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

# program -> Debian package
PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "socat": "socat",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
}


def missing(programs: Iterable[str], plugin_folders: Iterable[Path] = PLUGIN_FOLDERS, path: str | None = None) -> list[str]:
    """Debian packages that are not there, sorted."""
    packages = {PACKAGES[program] for program in programs if shutil.which(program, path=path or search_path()) is None}
    if not any((folder / "bridge").exists() for folder in plugin_folders):
        packages.add("containernetworking-plugins")
    return sorted(packages)


def check() -> None:
    """Raise LocalError unless a cluster can run here."""
    if platform.system() != "Linux":
        raise LocalError(
            f"a local cluster needs Linux; this is {platform.system()}. Use CLUSTER=current with a cluster you have"
        )
    if os.geteuid() != 0:
        raise LocalError("a local cluster needs root (namespaces, cgroups, mounts); run it with sudo")
    if absent := missing(PACKAGES):
        raise LocalError(
            f"not installed: {', '.join(absent)}. Run: apt-get install -y --no-install-recommends {' '.join(absent)}"
        )


def plugin_folder() -> Path:
    """Where the CNI plugins are."""
    return next(folder for folder in PLUGIN_FOLDERS if (folder / "bridge").exists())
