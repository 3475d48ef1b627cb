"""Which images a node holds, by the name they were given under and their digest: what need not be imported again."""

from __future__ import annotations

import json
from collections.abc import Mapping

from penstock_local.node import Node


def known(node: Node) -> dict[str, str]:
    try:
        images: dict[str, str] = json.loads((node.machine.folder / "images.json").read_text())
    except FileNotFoundError:
        return {}
    return images


def note(node: Node, images: Mapping[str, str]) -> None:
    (node.machine.folder / "images.json").write_text(json.dumps(images))
