"""What `penstock local status` prints: processes with memory, nodes with what they offer, images, how to reach the API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penstock_local.cluster import Cluster
from penstock_local.eks import AWS_ENDPOINT
from penstock_local.errors import LocalError
from penstock_local.node_images import named
from penstock_local.processes import resident_mib
from penstock_local.readiness import is_ready

Row = Sequence[str]
_ZONE, _TYPE, _CAPACITY = "topology.kubernetes.io/zone", "node.kubernetes.io/instance-type", "karpenter.sh/capacity-type"


class Page(NamedTuple):
    text: str
    well: bool
    """Every process runs, the API server answers and every node is Ready."""


def report(cluster: Cluster) -> Page:
    """The whole page; says what to do where something is down."""
    running = {name: daemon.pid() for name, daemon in cluster.daemons().items()}
    memory = {name: resident_mib(pid) for name, pid in running.items() if pid is not None}
    parts = [
        f"cluster {cluster.name}   {_count(len(memory), 'process', 'es')} of {len(running)}   {sum(memory.values()):,.0f} MiB",
        table(("PROCESS", "PID", "MEMORY"), [_process(name, pid, memory) for name, pid in running.items()]),
    ]
    well = len(memory) == len(running)
    try:
        nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json", "--request-timeout=5s"))["items"]
        ready = sum(map(is_ready, nodes))
        if well and ready < cluster.config.nodes:
            well = False
            parts.append(f"{ready} of {cluster.config.nodes} nodes are Ready; wait, or see: penstock local logs NODE/kubelet")
        parts.append(table(("NODE", "READY", "INSTANCE", "ZONE", "CAPACITY", "GPU", "EFA"), [node_row(one) for one in nodes]))
    except LocalError as error:
        well = False
        parts.append(f"the API server does not answer ({str(error).splitlines()[0]})")
    parts.append(table(("IMAGE", "NODES", "DIGEST"), image_rows({node.name: named(node) for node in cluster.nodes()})))
    if len(memory) < len(running):
        parts.append(f"something is down; this starts it again: penstock local up --name {cluster.name}")
    if cluster.config.aws:
        parts.append(f"fake AWS   {cluster.aws_environment()['AWS_ENDPOINT_URL']} from this machine, {AWS_ENDPOINT} from pods")
    parts.append(f"export KUBECONFIG={cluster.kubeconfig}")
    return Page("\n\n".join(parts), well)


def table(header: Row, rows: Sequence[Row]) -> str:
    """Columns as wide as their longest cell."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)]
    return "\n".join(lines)


def node_row(node: Mapping[str, Any]) -> Row:
    labels, can = node["metadata"].get("labels", {}), node["status"].get("allocatable", {})
    return (
        node["metadata"]["name"],
        "yes" if is_ready(node) else "no",
        *(labels.get(name, "-") for name in (_TYPE, _ZONE, _CAPACITY)),
        *(can.get(name, "0") for name in ("nvidia.com/gpu", "vpc.amazonaws.com/efa")),
    )


def image_rows(held: Mapping[str, Mapping[str, str]]) -> list[Row]:
    """One row for each image and digest, with the nodes that hold it."""
    where: dict[tuple[str, str], list[str]] = {}
    for node, images in held.items():
        for name, digest in images.items():
            where.setdefault((name, digest), []).append(node)
    return [(name, " ".join(nodes), digest[:19]) for (name, digest), nodes in sorted(where.items())]


def _process(name: str, pid: int | None, memory: Mapping[str, float]) -> Row:
    return (name, str(pid), f"{memory[name]:.0f} MiB") if pid is not None else (name, "-", "not running")


def _count(number: int, noun: str, plural: str) -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"
