"""Batch prediction: one Job of the serving image over a folder of shards, and its answer read back from S3 and checked.

The answer is JSON Lines, one object a sample: {"key": str, "label": int | null, "probabilities": [float, ...]}. Beside it lies
which Job made it: a run that is repeated when the Job is gone (its time to live was over) takes the answer that is there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import jobs, s3
from .errors import ComponentError, several
from .kube import Kube, Object

log = logging.getLogger(__name__)

FILE: Final = "predictions.jsonl"
# Of penstock_serving.batch: wrong arguments; a model, shards or a sample that would fail again.
_FINAL_EXIT_CODES: Final = (2, 65)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What to predict and where to run it. URIs are s3://, or paths of a file system that `placement` mounts."""

    model_uri: str
    input_uri: str
    output_uri: str
    image: str
    run_id: str = ""
    namespace: str = ""
    service_account: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    placement: Mapping[str, Any] = field(default_factory=dict)
    backoff_limit: int = 1
    deadline_minutes: float = 60.0
    stuck_seconds: float = 60.0


class Predictions(NamedTuple):
    """keys (n), labels (n,) with -1 for none, probabilities (n, classes)."""

    keys: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def run(wanted: Batch, prefix: str) -> tuple[str, jobs.Finished]:
    """Predict; returns the URI of the predictions in S3. `prefix` begins the Job's name. Nothing is run where the
    predictions of the very same Job of this `run_id` are there already.

    Raises:
        ComponentError: the Job failed; see `jobs.run`.
    """
    s3.parse(wanted.output_uri)
    uri = s3.join(wanted.output_uri, FILE)
    arguments = {"--model": wanted.model_uri, "--input": wanted.input_uri, "--output": uri}
    for name, value in arguments.items():
        if not value:
            raise ComponentError(f"{name.removeprefix('--')}_uri is empty; give an s3:// URI")
    job = jobs.build(
        prefix,
        wanted.run_id,
        wanted.image,
        ["python", "-m", "penstock_serving.batch", *(part for pair in arguments.items() for part in pair)],
        env=wanted.env,
        resources=wanted.resources or {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        service_account=wanted.service_account,
        placement=wanted.placement,
        final_exit_codes=_FINAL_EXIT_CODES,
        backoff_limit=wanted.backoff_limit,
        deadline_seconds=round(wanted.deadline_minutes * 60),
    )
    kube = Kube(wanted.namespace)
    finished = _left(kube, job, uri) if wanted.run_id else None
    if finished is None:
        finished = jobs.run(kube, job, stuck_seconds=wanted.stuck_seconds)
        _sign(uri, finished)
    return uri, finished


def _left(kube: Kube, job: Object, uri: str) -> jobs.Finished | None:
    """What this Job left, if it is gone and its predictions are as it wrote them."""
    name = job["metadata"]["name"]
    if kube.get("batch/v1", "Job", name) is not None:
        return None
    found = s3.find(uri)
    if found is None or not s3.exists(_signature(uri)):
        return None
    signed = json.loads(s3.read(_signature(uri)))
    if (signed["job"], signed["etag"]) != (name, found.etag):
        return None
    log.info("%s is there, and the Job %s that made it is gone; nothing is run", uri, name)
    return jobs.Finished(name, float(signed["seconds"]))


def _sign(uri: str, finished: jobs.Finished) -> None:
    found = s3.find(uri)
    if found is None:
        raise ComponentError(f"Job {finished.name} is complete, but {uri} is not there; was it deleted?")
    about = {"job": finished.name, "etag": found.etag, "seconds": finished.seconds}
    s3.write(_signature(uri), json.dumps(about).encode(), "application/json")


def _signature(uri: str) -> str:
    return f"{uri}.job.json"


def read(uri: str, classes: int = 0) -> Predictions:
    """Predictions from S3; with `classes` every line must have as many probabilities, else as many as the first.

    Raises:
        ComponentError: not there, empty, or lines that cannot be used, each with its number.
    """
    keys: list[str] = []
    labels: list[int] = []
    rows: list[list[float]] = []
    problems: list[str] = []
    seen: set[str] = set()
    lines = s3.read(uri).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            key, label, row = _row(line, classes)
            if key in seen:
                raise ValueError(f"key {key!r} stands twice")
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"line {number}: {_words(error)}")
            continue
        classes = classes or len(row)
        seen.add(key)
        keys.append(key)
        labels.append(label)
        rows.append(row)
    if problems:
        raise several(f"{uri}: {len(problems)} of {len(problems) + len(rows)} predictions cannot be used", problems)
    if not rows:
        raise ComponentError(f"{uri}: no predictions; was the folder of shards empty?")
    return Predictions(keys, np.array(labels), np.array(rows))


def _row(line: bytes, classes: int) -> tuple[str, int, list[float]]:
    fields = json.loads(line)
    key, label, row = fields["key"], fields["label"], [float(each) for each in fields["probabilities"]]
    if classes and len(row) != classes:
        raise ValueError(f"{key!r} has {len(row)} probabilities, expected one for each of {classes} classes")
    if not all(0.0 <= each <= 1.0 for each in row):  # false for NaN too
        raise ValueError(f"{key!r} has a probability outside 0 to 1: {next(each for each in row if not 0.0 <= each <= 1.0)}")
    # Softmax in float32 over many classes is off by a little; logits or sigmoids are off by much.
    if abs(sum(row) - 1.0) > 1e-3:
        raise ValueError(f"{key!r}: the probabilities sum to {sum(row):.4g}, expected 1")
    if label is None:
        return str(key), -1, row
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(row):
        raise ValueError(f"{key!r} has label {label!r}, expected a class index from 0 to {len(row) - 1}")
    return str(key), label, row


def _words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error}; expected key, label and probabilities"
    return f"not JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)
