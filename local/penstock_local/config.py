"""What a cluster was started with; kept in its folder, so that `up` after a reboot makes the same one."""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from penstock_local.errors import LocalError
from penstock_local.files import put
from penstock_local.node import NodeShape

_FILE = "config.json"
MOST_NODES = 32


@dataclass(slots=True, kw_only=True)
class Config:
    """`port`, `aws_port` 0: any free one. `quick_failure`: a silent node is noticed after 5 s instead of 40.

    `aws`: the fake AWS and what EKS adds to Kubernetes.
    """

    nodes: int = 2
    quick_failure: bool = False
    port: int = 0
    instance_type: str = "p4d.24xlarge"
    capacity_type: str = "spot"
    gpus: int = 8
    efa: int = 4
    aws: bool = False
    aws_port: int = 0

    def shape(self) -> NodeShape:
        return NodeShape(instance_type=self.instance_type, capacity_type=self.capacity_type, gpus=self.gpus, efa=self.efa)


def default_name() -> str:
    """Of the cluster that is meant where none is named: PENSTOCK_CLUSTER, else penstock."""
    return os.environ.get("PENSTOCK_CLUSTER") or "penstock"


def check_name(name: str) -> str:
    """The name, if it can be a folder's and a cgroup's.

    Raises:
        LocalError: it cannot.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise LocalError(f"cluster name {name!r}: use up to 32 of a to z, 0 to 9 and, between them, '-'")
    return name


def settle(name: str, kept: Config | None, asked: Config | None) -> Config:
    """What the cluster shall be: as asked when it is new; what it is, or more nodes or the fake AWS too, when it exists.

    Raises:
        LocalError: a change that only a fresh cluster can have.
    """
    if asked is not None and not 1 <= asked.nodes <= MOST_NODES:
        raise LocalError(f"{asked.nodes} nodes; one machine carries 1 to {MOST_NODES}")
    if kept is None:
        return replace(asked) if asked is not None else Config()
    if asked is None:
        return kept
    for field in fields(Config):
        has, wants = getattr(kept, field.name), getattr(asked, field.name)
        grows = field.name in ("nodes", "aws") and wants > has
        left_out = field.name in ("aws", "port", "aws_port") and not wants
        if has != wants and not grows and not left_out:
            raise LocalError(
                f"cluster {name} has {field.name} {has}, asked for {wants};"
                f" a fresh one can have that: penstock local reset --name {name}"
            )
    return replace(kept, nodes=max(kept.nodes, asked.nodes), aws=kept.aws or asked.aws)


def read(folder: Path) -> Config | None:
    """None when there is no cluster in this folder."""
    try:
        return Config(**json.loads((folder / _FILE).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(folder: Path, config: Config) -> None:
    """Make this the cluster's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / _FILE, json.dumps(asdict(config)))


def is_free(port: int) -> bool:
    """Nothing listens on this port of the host's loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
