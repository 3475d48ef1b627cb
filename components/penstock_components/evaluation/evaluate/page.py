"""The evaluation's page: scores, classes, confusion matrix, ROC and reliability."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from penstock_components import report

from .scores import Scores


def render(about: Mapping[str, object], scores: Scores) -> str:
    """A whole HTML page; `about` says which model on which data."""
    rows = [[*each[:-1], "-" if each.auc is None else each.auc] for each in scores.classes]
    parts = [
        report.facts({**about, **scores.values()}),
        report.heading("Classes"),
        report.table(["class", "samples", "precision", "recall", "F1", "AUC"], rows),
    ]
    if scores.without_auc:
        names = ", ".join(scores.without_auc)
        parts.append(report.paragraph(f"No AUC, since the samples hold none of these, or nothing else: {names}"))
    parts += [
        report.heading("Confusion matrix"),
        report.plot(_confusion(scores), "confusion matrix: true class by predicted class"),
        report.heading("ROC and reliability"),
        report.plot(_curves(scores), "ROC curve, and accuracy by confidence"),
    ]
    return report.page("Evaluation", *parts)


def _confusion(scores: Scores) -> Figure:
    names = [each.name for each in scores.classes]
    counts = np.array(scores.confusion)
    size = min(4 + 0.3 * len(names), 16)
    figure = Figure(figsize=(size, size))
    axes = figure.add_subplot()
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) <= 40:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for (true, predicted), count in np.ndenumerate(counts):
            if count:
                axes.text(predicted, true, str(count), ha="center", va="center", fontsize=8)
    return figure


def _curves(scores: Scores) -> Figure:
    figure = Figure(figsize=(9, 4))
    roc, reliability = figure.subplots(1, 2)
    roc.plot(scores.roc.fpr, scores.roc.tpr)
    title = "ROC" if len(scores.classes) == 2 else "ROC, micro average"
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title=title)
    reliability.plot([each.confidence for each in scores.bins], [each.accuracy for each in scores.bins], marker="o")
    reliability.set(xlabel="confidence", ylabel="accuracy", title=f"ECE {scores.ece:.3g}", xlim=(0, 1), ylim=(0, 1))
    for axes in (roc, reliability):
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    return figure
