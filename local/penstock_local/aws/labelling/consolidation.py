"""One label from several workers' answers, with a confidence. Pure.

SageMaker Developer Guide, "Annotation consolidation": for classification "a variant of the Expectation Maximization approach"
that estimates the workers. The service's algorithm is not published; this is the simplest of the family: each worker has
one accuracy, estimated together with the labels. One worker per object gives confidence 0.00 ("Labeling job output data").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from penstock_local.aws.labelling.workers import Answer

_ROUNDS: Final = 10
_FIRST_ACCURACY: Final = 0.75


class Label(NamedTuple):
    """A class and how sure it is, 0 to 1."""

    category: int  # index of the class
    confidence: float


def consolidated(answers: Mapping[int, Sequence[Answer]], classes: int) -> dict[int, Label]:
    """A label for each object that has answers."""
    accuracy = {answer.worker: _FIRST_ACCURACY for given in answers.values() for answer in given}
    beliefs: dict[int, list[float]] = {}
    for _ in range(_ROUNDS):
        beliefs = {number: _belief(given, accuracy, classes) for number, given in answers.items()}
        accuracy = _accuracy(answers, beliefs)
    return {number: _label(beliefs[number], len(given)) for number, given in answers.items()}


def _belief(given: Sequence[Answer], accuracy: Mapping[str, float], classes: int) -> list[float]:
    scores = [0.0] * classes
    for answer in given:
        right = accuracy[answer.worker]
        for index in range(classes):
            scores[index] += math.log(right if index == answer.label else (1 - right) / (classes - 1))
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def _accuracy(answers: Mapping[int, Sequence[Answer]], beliefs: Mapping[int, list[float]]) -> dict[str, float]:
    right: dict[str, float] = {}
    asked: dict[str, int] = {}
    for number, given in answers.items():
        for answer in given:
            right[answer.worker] = right.get(answer.worker, 0.0) + beliefs[number][answer.label]
            asked[answer.worker] = asked.get(answer.worker, 0) + 1
    return {worker: min(max((right[worker] + 1) / (count + 2), 0.01), 0.99) for worker, count in asked.items()}


def _label(belief: Sequence[float], workers: int) -> Label:
    index = max(range(len(belief)), key=lambda each: belief[each])
    return Label(index, round(belief[index], 2) if workers > 1 else 0.0)
