"""Scores of a classifier from labels and probabilities. Pure; scikit-learn does the arithmetic.

Macro averages count every class of the data set alike, also one that is rare. A class that does not occur in the labels, or is
all there is, has no ROC curve: it is left out of the macro AUC and named in `without_auc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics  # type: ignore[import-untyped]

from penstock_components.batch import Predictions

BINS: Final = 15
_CURVE: Final = 200


class ClassScores(NamedTuple):
    """One class; auc is None where it is not defined."""

    name: str
    samples: int
    precision: float
    recall: float
    f1: float
    auc: float | None


class Bin(NamedTuple):
    """Samples whose top probability falls into one of the equal bins: their number, mean confidence, share that is right."""

    samples: int
    confidence: float
    accuracy: float


class Curve(NamedTuple):
    """ROC: false and true positive rates by threshold, at most 200 points, thresholds at most 1."""

    fpr: list[float]
    tpr: list[float]
    threshold: list[float]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All scores of one evaluation. confusion[true][predicted] counts samples; roc is micro-averaged (binary: of class 1)."""

    samples: int
    accuracy: float
    log_loss: float
    ece: float
    macro_auc: float | None
    classes: list[ClassScores]
    confusion: list[list[int]]
    roc: Curve
    bins: list[Bin]

    @property
    def without_auc(self) -> list[str]:
        return [each.name for each in self.classes if each.auc is None]

    def values(self) -> dict[str, float]:
        """The scores that are one number, by name; `macro_auc` is missing where no class has one."""
        averaged = ("precision", "recall", "f1")
        macro = {f"macro_{name}": float(np.mean([getattr(each, name) for each in self.classes])) for name in averaged}
        auc = {} if self.macro_auc is None else {"macro_auc": self.macro_auc}
        one = {"accuracy": self.accuracy, "log_loss": self.log_loss, "ece": self.ece, "samples": float(self.samples)}
        return one | macro | auc


def score(predictions: Predictions, names: list[str]) -> Scores:
    """Scores of labelled predictions; `names` are the classes in index order."""
    labels, probabilities = predictions.labels, predictions.probabilities
    indices, predicted = range(len(names)), probabilities.argmax(axis=1)
    found = metrics.precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0.0)
    aucs = [_auc(labels == index, probabilities[:, index]) for index in indices]
    defined = [auc for auc in aucs if auc is not None]
    rows = zip(names, *found, aucs, strict=True)
    bins = _bins(labels == predicted, probabilities.max(axis=1))
    return Scores(
        samples=len(labels),
        accuracy=float(metrics.accuracy_score(labels, predicted)),
        log_loss=_log_loss(labels, probabilities),
        ece=sum(each.samples * abs(each.confidence - each.accuracy) for each in bins) / len(labels),
        macro_auc=float(np.mean(defined)) if defined else None,
        classes=[ClassScores(name, int(n), float(p), float(r), float(f), auc) for name, p, r, f, n, auc in rows],
        confusion=metrics.confusion_matrix(labels, predicted, labels=indices).tolist(),
        roc=_roc(labels, probabilities),
        bins=bins,
    )


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    return float(metrics.roc_auc_score(positive, scores)) if positive.any() and not positive.all() else None


def _log_loss(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    # Sums are 1 to float32's precision only, which scikit-learn warns about.
    whole = probabilities / probabilities.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(labels, whole, labels=np.arange(probabilities.shape[1])))


def _roc(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Curve:
    one_hot = np.eye(probabilities.shape[1], dtype=bool)[labels]
    column = slice(1, 2) if probabilities.shape[1] == 2 else slice(None)
    positive, scores = one_hot[:, column].ravel(), probabilities[:, column].ravel()
    if positive.all() or not positive.any():
        return Curve([0.0, 1.0], [0.0, 1.0], [1.0, 0.0])
    fpr, tpr, threshold = metrics.roc_curve(positive, scores)
    picked = np.unique(np.linspace(0, len(fpr) - 1, min(len(fpr), _CURVE)).round().astype(int))
    # The first threshold is infinite, which is no JSON.
    columns: list[Any] = [fpr[picked], tpr[picked], np.minimum(threshold[picked], 1.0)]
    return Curve(*(column.tolist() for column in columns))


def _bins(right: NDArray[np.bool_], confidence: NDArray[np.float64]) -> list[Bin]:
    """Equal bins of the top probability (Guo et al., ICML 2017); empty ones are left out."""
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (which == number for number in range(BINS))
        if inside.any()
    ]
