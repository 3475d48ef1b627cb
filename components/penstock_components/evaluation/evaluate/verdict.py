"""Whether a model is good enough: its metric against a threshold and, where one is named, against another model's."""

from __future__ import annotations

import json
import logging
import math

from penstock_components import s3
from penstock_components.errors import ComponentError

log = logging.getLogger(__name__)


def passes(
    metrics_uri: str,
    metric: str,
    threshold: float,
    *,
    higher_is_better: bool = True,
    baseline_uri: str = "",
    min_gain: float = 0.0,
) -> bool:
    """True if the metric reaches the threshold and, where a baseline is there, is better than its by more than `min_gain`.

    Both URIs name a metrics.json of an evaluation or a model.json of a model. A baseline that is not there is beaten: the first
    model of all has none.

    Raises:
        ComponentError: the metrics are not there, lack the metric, or it is not a finite number.
    """
    sign = 1.0 if higher_is_better else -1.0
    value = read(metrics_uri, metric)
    reached = sign * (value - threshold) >= 0
    log.info("%s is %.6g, the threshold is %.6g: %s", metric, value, threshold, "reached" if reached else "not reached")
    if not baseline_uri or not reached:
        return reached
    if not s3.exists(baseline_uri):
        log.info("no baseline at %s: nothing to beat", baseline_uri)
        return True
    baseline = read(baseline_uri, metric)
    better = sign * (value - baseline) > min_gain
    words = "better" if better else "not better"
    log.info("the baseline's is %.6g, the gain must be above %.6g: %s", baseline, min_gain, words)
    return better


def read(uri: str, metric: str) -> float:
    """One metric of a metrics.json or model.json. Raises as `passes`."""
    try:
        found = json.loads(s3.read(uri))["metrics"]
        names = sorted(found)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ComponentError(f"{uri} holds no metrics ({error!r}); expected an object with `metrics`") from error
    if metric not in names:
        raise ComponentError(f"{uri}: no metric {metric!r}; there are {', '.join(names) or 'none'}")
    value = found[metric]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ComponentError(f"{uri}: {metric} is {value!r}; no decision can rest on that")
    return float(value)
