"""What the last steps of a run read, looked at before the first: people label for days in between."""

from __future__ import annotations

import logging

from penstock_components import aws, s3
from penstock_components.errors import ComponentError
from penstock_components.evaluation.evaluate import verdict

log = logging.getLogger(__name__)

# What the gate compares in this pipeline.
METRIC = "accuracy"


def check_baseline(uri: str) -> None:
    """As the gate will read it. One that is not there is no error: the first model of all has none to beat.

    Raises:
        ComponentError: no bucket of this region, not to be read, or no metrics.
    """
    _check_bucket(uri)
    if s3.exists(uri):
        verdict.read(uri, METRIC)
    else:
        log.warning("baseline_uri: %s is not there; unless it comes until the gate, there is nothing to beat", uri)


def check_shards(uri: str) -> None:
    """Something to predict: as the prediction lists it.

    Raises:
        ComponentError: no bucket of this region, not to be listed, or no shards.
    """
    _check_bucket(uri)
    place = uri if uri.endswith(".tar") else s3.join(uri, "")
    if not any(each.uri.endswith(".tar") for each in s3.objects(place)):
        raise ComponentError(f"{uri}: no .tar shards there")


def _check_bucket(uri: str) -> None:
    bucket, _ = s3.parse(uri)
    here = aws.client("s3").meta.region_name
    if (where := s3.region(bucket)) != here:
        raise ComponentError(f"{uri}: bucket {bucket!r} is in {where}, this run in {here}; they must be the same")
