"""One batch prediction: the Job, and a count of what it answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from penstock_components import batch
from penstock_components.batch import Batch, Predictions
from penstock_components.errors import ComponentError

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """Where the predictions are, how many, and how many of each class (by name, else by index)."""

    predictions_uri: str
    samples: int
    counts: dict[str, int]
    metrics: dict[str, float]


def predict(wanted: Batch, classes: Sequence[str] = ()) -> Outcome:
    """Predict every sample of `wanted.input_uri`.

    Raises:
        ComponentError: the Job failed, or its answer is empty or broken.
    """
    uri, finished = batch.run(wanted, "predict")
    predictions = batch.read(uri, len(classes))
    counts = count(predictions, classes)
    log.info("%d predictions: %s", len(predictions.keys), counts)
    metrics = {
        "samples": float(len(predictions.keys)),
        "duration_seconds": finished.seconds,
        "mean_confidence": float(predictions.probabilities.max(axis=1).mean()),
        **{f"predicted_{name}": float(number) for name, number in counts.items()},
    }
    return Outcome(uri, len(predictions.keys), counts, metrics)


def count(predictions: Predictions, classes: Sequence[str] = ()) -> dict[str, int]:
    """How many samples have each class as their most probable one; classes nobody has are there with 0."""
    size = predictions.probabilities.shape[1]
    names = list(classes) or [str(index) for index in range(size)]
    if len(set(names)) != size:
        raise ComponentError(f"classes has {len(set(names))} different names, the model has {size} classes")
    found = np.bincount(predictions.probabilities.argmax(axis=1), minlength=size)
    return {name: int(number) for name, number in zip(names, found, strict=True)}
