"""Workers who see the truth through noise. Pure, and the same for the same seed, worker and object, in any order.

A worker is right with probability `accuracy`, else any other class is as likely; or `confusion[true][answered]` gives the
probabilities. Which of a team's workers answer for an object is drawn per object.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One worker's answer: the index of a class; times in seconds since 1970."""

    worker: str
    label: int
    accepted: float
    submitted: float


@dataclass(frozen=True)
class Worker:
    """One person of a team."""

    id: str
    accuracy: float
    confusion: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Crew:
    """The people of a team. `truth`: class index by object URI; `truth_uri`: an S3 object that holds it, instead."""

    workers: tuple[Worker, ...]
    seed: int = 0
    truth: Mapping[str, int] = field(default_factory=dict)
    truth_uri: str = ""


def crew(given: Mapping[str, Any]) -> Crew:
    """From the body of the control API.

    Raises:
        ValueError: no workers, a probability that is none, a confusion whose rows do not sum to 1.
    """
    if unknown := set(given) - {"workers", "seed", "truth", "truthUri"}:
        raise ValueError(f"unknown {sorted(unknown)}; a crew has workers, seed, and truth or truthUri")
    if ("truth" in given) == ("truthUri" in given):
        raise ValueError("give either truth (object URI to class index) or truthUri (an S3 object that holds it)")
    people = tuple(_worker(each) for each in given.get("workers", []))
    if not people or len({each.id for each in people}) < len(people):
        raise ValueError("workers: give at least one, each with an id of its own")
    return Crew(people, int(given.get("seed", 0)), check_truth(given.get("truth", {})), str(given.get("truthUri", "")))


def check_truth(given: object) -> Mapping[str, int]:
    """Raises ValueError for anything but object URIs with class indices."""
    good = isinstance(given, dict) and all(isinstance(each, int) and not isinstance(each, bool) for each in given.values())
    if not good or not isinstance(given, dict):
        raise ValueError("the truth must be a JSON object of object URIs and class indices")
    return given


def answers(people: Crew, uri: str, truth: int, classes: int, count: int, now: float) -> list[Answer]:
    """What `count` of the crew answer for one object.

    Raises:
        ValueError: the truth or a confusion does not fit the number of classes.
    """
    if not 0 <= truth < classes:
        raise ValueError(f"the truth of {uri} is class {truth}; the job has {classes} classes")
    chosen = _draw(people.seed, "who", uri).sample(people.workers, count)
    return [_answer(worker, _draw(people.seed, worker.id, uri), truth, classes, now) for worker in chosen]


def _answer(worker: Worker, draw: random.Random, truth: int, classes: int, now: float) -> Answer:
    chances = list(worker.confusion[truth]) if worker.confusion else _even(worker.accuracy, truth, classes)
    if len(chances) != classes:
        raise ValueError(f"worker {worker.id} has a confusion of {len(chances)} classes; the job has {classes}")
    label = draw.choices(range(classes), chances)[0]
    return Answer(worker.id, label, now - draw.uniform(2.0, 20.0), now)


def _even(accuracy: float, truth: int, classes: int) -> list[float]:
    return [accuracy if each == truth else (1.0 - accuracy) / (classes - 1) for each in range(classes)]


def _draw(seed: int, *parts: str) -> random.Random:
    return random.Random(hashlib.sha256("\n".join((str(seed), *parts)).encode()).digest())


def _worker(given: Mapping[str, Any]) -> Worker:
    confusion: Sequence[Sequence[float]] = given.get("confusion", [])
    accuracy = float(given.get("accuracy", 1.0))
    if not given.get("id") or set(given) - {"id", "accuracy", "confusion"}:
        raise ValueError(f"{dict(given)}: a worker has an id, an accuracy, and may have a confusion")
    if not 0 <= accuracy <= 1:
        raise ValueError(f"worker {given['id']}: accuracy is {accuracy}; expected 0 to 1")
    for row in confusion:
        if len(row) != len(confusion) or min(row) < 0 or abs(sum(row) - 1) > 1e-6:
            raise ValueError(f"worker {given['id']}: a row of the confusion needs one probability per class, 1 together: {row}")
    return Worker(str(given["id"]), accuracy, tuple(tuple(map(float, row)) for row in confusion))
