"""One evaluation: predict the split's shards in the serving image, check the answer against the data set, score it.

What is scored is what will serve: the Job runs the serving image, not this step's. `metrics.json` is left beside the
predictions, for the gate and as the next model's baseline.
"""

from __future__ import annotations

import json
import logging
from typing import NamedTuple

from penstock_components import batch, s3
from penstock_components.batch import Batch, Predictions
from penstock_components.errors import ComponentError

from . import page
from .scores import Scores, score

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """URIs of what was left in S3, the scores and their page."""

    metrics_uri: str
    predictions_uri: str
    classes: list[str]
    scores: Scores
    html: str


class DataSet(NamedTuple):
    """What dataset.json says: class names in index order, samples of the split."""

    classes: list[str]
    samples: int


def evaluate(data_uri: str, split: str, wanted: Batch) -> Outcome:
    """Evaluate `wanted.model_uri` on one split of a data set; `wanted.input_uri` is the split's folder.

    Raises:
        ComponentError: no data set there, the Job failed, or predictions that do not fit the data set.
    """
    data = read_data_set(data_uri, split)
    uri, _ = batch.run(wanted, "evaluate")
    predictions = batch.read(uri, len(data.classes))
    check(predictions, data, uri)
    scores = score(predictions, data.classes)
    log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in scores.values().items()))
    metrics_uri = s3.join(wanted.output_uri, "metrics.json")
    about = {"model_uri": wanted.model_uri, "data_uri": data_uri, "split": split, "predictions_uri": uri}
    s3.write(metrics_uri, json.dumps({**about, "metrics": scores.values()}, indent=1).encode(), "application/json")
    return Outcome(metrics_uri, uri, data.classes, scores, page.render(about, scores))


def read_data_set(data_uri: str, split: str) -> DataSet:
    """Classes and size of a split from `dataset.json`.

    Raises:
        ComponentError: it is not there, is not such a file, or has no such split.
    """
    uri = s3.join(data_uri, "dataset.json")
    try:
        found = json.loads(s3.read(uri))
        classes, counts = [str(name) for name in found["classes"]], dict(found["counts"])
        samples = {name: sum(int(count) for count in each.values()) for name, each in counts.items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ComponentError(f"{uri} describes no data set ({error!r}); expected classes and counts") from error
    if not samples.get(split):
        raise ComponentError(f"{uri}: no samples in split {split!r}; it has {samples}")
    if len(classes) < 2:
        raise ComponentError(f"{uri}: classes is {classes}; a classifier needs at least 2")
    return DataSet(classes, samples[split])


def check(predictions: Predictions, data: DataSet, uri: str) -> None:
    """Refuse predictions that are not of this split.

    Raises:
        ComponentError: some are missing or too many, or samples without a label.
    """
    found = len(predictions.keys)
    if found != data.samples:
        raise ComponentError(f"{uri}: {found} predictions for {data.samples} samples; were shards changed after dataset.json?")
    bare = [key for key, label in zip(predictions.keys, predictions.labels, strict=True) if label < 0]
    if bare:
        raise ComponentError(f"{uri}: {len(bare)} samples have no label, such as {bare[0]!r}; nothing to compare with")
