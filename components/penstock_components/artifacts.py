"""Output artifacts of a step, written so that the UI shows them and KFP's cache finds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write(artifact: Any, content: str | Mapping[str, float]) -> None:
    """Write a page (HTML) or metrics into the artifact's file; metrics become its metadata as well.

    KFP shows metadata, but its cache takes an artifact without a file for a missing one. The artifact is KFP's, untyped here.
    """
    if isinstance(content, Mapping):
        for name, value in content.items():
            artifact.log_metric(name, value)
        content = json.dumps(dict(content), sort_keys=True)
    path = Path(artifact.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_model(artifact: Any, model_uri: str, about: Mapping[str, Any]) -> None:
    """Write where the model lies, its size and hash into the artifact's file; its metadata has that and the rest of `about`.

    The artifact's own URI stays: KFP's launcher uploads the file there, and refuses a place outside the pipeline root.
    """
    artifact.metadata.update(about, model_uri=model_uri)
    path = Path(artifact.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"model_uri": model_uri, "bytes": about["bytes"], "sha256": about["sha256"]}))


def write_classification(
    artifact: Any, classes: Sequence[str], confusion: Sequence[Sequence[int]], roc: tuple[list[float], list[float], list[float]]
) -> None:
    """Write a confusion matrix [true][predicted] and an ROC curve (false, true positive rates, thresholds)."""
    artifact.log_confusion_matrix(list(classes), [list(row) for row in confusion])
    artifact.log_roc_curve(*roc)
    path = Path(artifact.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(artifact.metadata, sort_keys=True))
