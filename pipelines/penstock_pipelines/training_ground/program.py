"""The training program on its way into the trainer's pods: a ConfigMap named by its content, so no image is built for it.

The ConfigMap is immutable and belongs to no run: every run with this version of the program mounts the same one (some 15 KB),
and a pod that starts again months later finds it. Another program makes another ConfigMap.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from penstock_components import names
from penstock_components.kube import Kube, Object, Refused

FILE: Final = "train_images.py"


def source() -> str:
    """The program's text."""
    return resources.files("penstock_pipelines.programs").joinpath(FILE).read_text()


def build(text: str) -> Object:
    """The ConfigMap. Pure."""
    labels = {"app.kubernetes.io/name": "train-images", "app.kubernetes.io/managed-by": "penstock-components"}
    metadata = {"name": names.deterministic("train-images", text), "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {FILE: text}, "immutable": True}


def put(kube: Kube) -> str:
    """Make the ConfigMap if it is not there; its name."""
    wish = build(source())
    try:
        kube.create(wish)
    except Refused as error:
        if error.status != 409:
            raise
    return str(wish["metadata"]["name"])
