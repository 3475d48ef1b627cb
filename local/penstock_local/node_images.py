"""Which images a node holds: what need not be imported again, and what `status` shows.

containerd is asked each time. A note would be wrong when an archive of another name brings the same image, and would not know
what else was in the seed that the node was made from.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock_local.errors import LocalError
from penstock_local.node import Node
from penstock_local.seeds import Archive


def named(node: Node) -> dict[str, str]:
    """By the name that pods use; nothing when the node does not run."""
    try:
        return _names(node.images())
    except LocalError:
        return {}


def missing(images: Mapping[str, str], wanted: Mapping[str, Archive]) -> list[str]:
    """Which of these archives a node with these `images()` does not have."""
    return [name for name, archive in wanted.items() if not holds(images, archive)]


def holds(images: Mapping[str, str], archive: Archive) -> bool:
    """A node with these `images()` has what importing the archive would give it: under its name, not only somewhere."""
    # A docker-save archive is known by the digest of its configuration, which the node has as the name of an image.
    digest = images.get(archive.digest, archive.digest)
    if archive.reference:
        return images.get(archive.reference) == digest
    return digest in _names(images).values()


def _names(images: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in images.items() if not name.startswith("sha256:")}
