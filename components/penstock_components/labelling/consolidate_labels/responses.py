"""Workers' answers as Ground Truth leaves them in S3, as three columns of numbers.

`<prefix>/iteration-<n>/<line of the manifest, from 0>/<time>.json` holds
`{"answers": [{"workerId", "submissionTime", "answerContent": {"crowd-image-classifier": {"label": "cat"}}}]}`. Any labelling
tool whose answers are written in this shape can be consolidated. A worker who answered twice counts with the later answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np

from penstock_components import aws, s3
from penstock_components.errors import ComponentError, several
from penstock_components.manifest import Record

from .dawid_skene import Answers

ELEMENT: Final = "crowd-image-classifier"
_PLACE = re.compile(r"iteration-\d+/(\d+)/[^/]+\.json$")


class Responses(NamedTuple):
    """Answers, the workers' ids in their order, and when the last answer was given (UTC)."""

    answers: Answers
    workers: list[str]
    last: datetime


def read(responses_uri: str, records: Sequence[Record], categories: Sequence[str]) -> Responses:
    """All answers under a `worker-response` prefix.

    Args:
        records: the manifest the labelling job was given, in its order.
        categories: class names, in the order of their indices.

    Raises:
        ComponentError: there are none, or some are broken, for objects not in the manifest or for other classes.
    """
    uris = [each.uri for each in s3.objects(s3.join(responses_uri, "")) if each.uri.endswith(".json")]
    if not uris:
        raise ComponentError(f"{responses_uri}: no worker responses there; expected .../annotations/worker-response")
    with ThreadPoolExecutor(aws.CONNECTIONS) as pool:
        bodies = list(pool.map(s3.read, uris))
    latest: dict[tuple[int, str], tuple[datetime, int]] = {}
    problems: list[str] = []
    for uri, body in zip(uris, bodies, strict=True):
        try:
            place = _object(uri, len(records))
            for worker, time, label in _answers(body, categories):
                latest[place, worker] = max((time, label), latest.get((place, worker), (time, label)))
        except ValueError as error:
            problems.append(f"{uri}: {error}")
    if problems:
        raise several(f"{len(problems)} of {len(uris)} worker responses cannot be used", problems)
    if not latest:
        raise ComponentError(f"{responses_uri}: {len(uris)} worker responses, none with an answer")
    workers = sorted({worker for _, worker in latest})
    index = {worker: number for number, worker in enumerate(workers)}
    rows = [(place, index[worker], label) for (place, worker), (_, label) in sorted(latest.items())]
    objects, by, labels = np.array(rows, dtype=np.int64).T
    shape = (len(records), len(workers), len(categories))
    return Responses(Answers(objects, by, labels, shape), workers, max(time for time, _ in latest.values()))


def _object(uri: str, count: int) -> int:
    match = _PLACE.search(uri)
    if match is None:
        raise ValueError("expected a path .../iteration-<n>/<object>/<time>.json")
    place = int(match[1])
    if place >= count:
        raise ValueError(f"object {place} (from 0), the manifest has {count} lines; give the labelling job's input manifest")
    return place


def _answers(body: bytes, categories: Sequence[str]) -> list[tuple[str, datetime, int]]:
    try:
        answers: list[dict[str, Any]] = json.loads(body)["answers"]
        found = [(each["workerId"], each.get("submissionTime", ""), each["answerContent"]) for each in answers]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a worker response ({type(error).__name__}: {error})") from error
    return [(str(worker), _time(time), _label(content, worker, categories)) for worker, time, content in found]


def _label(content: Any, worker: str, categories: Sequence[str]) -> int:
    try:
        label = content[ELEMENT]["label"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"worker {worker} gave no {ELEMENT} label: {content!r:.200}") from error
    if label not in categories:
        raise ValueError(f"worker {worker} answered {label!r}; the classes are {list(categories)}")
    return categories.index(label)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text) if text else datetime.min
    except ValueError as error:
        raise ValueError(f"submissionTime {text!r} is not an ISO 8601 time") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
