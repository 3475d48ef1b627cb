"""From workers' answers to one label an object: an augmented manifest, a list to label again, and a report on the workers.

Nothing in the results depends on when they were made: the same answers give the same bytes, so a retry changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from penstock_components import manifest, s3
from penstock_components.errors import ComponentError
from penstock_components.manifest import Record

from . import responses
from .dawid_skene import Answers, Estimate, dawid_skene, fleiss_kappa, majority
from .responses import Responses

log = logging.getLogger(__name__)

TYPE = "groundtruth/image-classification"


class Consolidated(NamedTuple):
    """The component's outputs, in this order; its README says what each means."""

    manifest_uri: str
    relabel_manifest_uri: str
    report_uri: str
    labelled_objects: int
    relabel_objects: int
    changed_from_majority: int
    mean_confidence: float


def consolidate(
    manifest_uri: str,
    worker_responses_uri: str,
    output_uri: str,
    label_attribute: str,
    label_categories: Sequence[str],
    job_name: str,
    min_confidence: float = 0.8,
) -> tuple[Consolidated, dict[str, float]]:
    """Write `consolidated.manifest`, `relabel.manifest` (where needed) and `report.json` under `output_uri`.

    Args:
        manifest_uri: the manifest the labelling job was given: the answers are for its lines.

    Returns:
        The component's outputs, and its metrics.

    Raises:
        ComponentError: wrong settings, or answers that cannot be used; each is named.
    """
    if not 0 <= min_confidence <= 1:
        raise ComponentError(f"min_confidence is {min_confidence}; it is a probability, 0 to 1")
    if len(set(label_categories)) < 2:
        raise ComponentError(f"label_categories is {list(label_categories)}; give the job's classes, in the same order")
    records = manifest.read(manifest_uri)
    answered = responses.read(worker_responses_uri, records, label_categories)
    estimate = dawid_skene(answered.answers)
    if not estimate.converged:
        log.warning("Dawid-Skene did not settle in %d iterations; labels with high confidence hold", len(estimate.objective))

    lines = _lines(records, answered, estimate, label_attribute, label_categories, job_name)
    again = _relabel(records, answered.answers, estimate, label_attribute, min_confidence)
    report = _report(records, answered, estimate, label_categories)
    result_uri, again_uri, report_uri = (
        s3.join(output_uri, name) for name in ("consolidated.manifest", "relabel.manifest", "report.json")
    )
    manifest.write(result_uri, lines)
    if again:
        manifest.write(again_uri, again)
    s3.write(report_uri, json.dumps(report, indent=1).encode(), "application/json")
    result = Consolidated(
        manifest_uri=result_uri,
        relabel_manifest_uri=again_uri if again else "",
        report_uri=report_uri,
        labelled_objects=report["objects"]["answered"],
        relabel_objects=len(again),
        changed_from_majority=len(report["changed_from_majority"]),
        mean_confidence=report["objects"]["mean_confidence"],
    )
    kappa = report["agreement"]["fleiss_kappa"]
    metrics = {name: value for name, value in result._asdict().items() if not isinstance(value, str)}
    metrics |= {"workers": len(answered.workers), "answers": len(answered.answers.labels)}
    return result, metrics | ({} if kappa is None else {"fleiss_kappa": kappa})


def _lines(
    records: Sequence[Record], answered: Responses, estimate: Estimate, attribute: str, categories: Sequence[str], job: str
) -> list[dict[str, Any]]:
    """The manifest with a label on each answered line; the others stay as they are."""
    has_answers = set(answered.answers.objects.tolist())
    lines = []
    for place, record in enumerate(records):
        label: dict[str, Any] = {}
        if place in has_answers:
            best = int(estimate.posterior[place].argmax())
            metadata = {
                "class-name": categories[best],
                "confidence": _rounded(estimate.posterior[place, best]),
                "type": TYPE,
                "job-name": f"labeling-job/{job}",
                "human-annotated": "yes",
                "creation-date": answered.last.replace(tzinfo=None).isoformat(timespec="microseconds"),
            }
            label = {attribute: best, f"{attribute}-metadata": metadata}
        lines.append({**record.fields, **label})
    return lines


def _relabel(
    records: Sequence[Record], answers: Answers, estimate: Estimate, attribute: str, least: float
) -> list[dict[str, Any]]:
    """Lines for a next labelling job: answered with too little confidence, or neither answered nor labelled before."""
    has_answers = set(answers.objects.tolist())
    confident = estimate.posterior.max(axis=1) >= least
    chosen = [
        record
        for place, record in enumerate(records)
        if (not confident[place] if place in has_answers else manifest.class_name(record, attribute) is None)
    ]
    ours = {attribute, f"{attribute}-metadata"}
    return [{key: value for key, value in record.fields.items() if key not in ours} for record in chosen]


def _report(records: Sequence[Record], answered: Responses, estimate: Estimate, categories: Sequence[str]) -> dict[str, Any]:
    answers = answered.answers
    votes = answers.counts()
    some = np.flatnonzero(votes.sum(axis=1))
    best, most = estimate.posterior.argmax(axis=1), majority(answers)
    # Where several classes have the most votes the majority has no opinion to change.
    changed = [place for place in some.tolist() if most[place, best[place]] < most[place].max()]
    right = best[answers.objects] == answers.labels
    accuracy = estimate.accuracy()
    return {
        "objects": {
            "all": len(records),
            "answered": len(some),
            "mean_confidence": _rounded(estimate.posterior.max(axis=1)[some].mean()),
            "classes": {name: int((best[some] == index).sum()) for index, name in enumerate(categories)},
        },
        "agreement": {
            "fleiss_kappa": None if (kappa := fleiss_kappa(votes)) is None else _rounded(kappa),
            "unanimous": int((most[some].max(axis=1) == 1).sum()),
            "ties": int(((most[some] == most[some].max(axis=1, keepdims=True)).sum(axis=1) > 1).sum()),
        },
        "changed_from_majority": [
            {
                "line": records[place].line,
                "source": records[place].source,
                "class": categories[best[place]],
                "votes": {name: int(n) for name, n in zip(categories, votes[place], strict=True) if n},
            }
            for place in changed
        ],
        "workers": {
            name: {
                "answers": int((answers.workers == number).sum()),
                "agrees_with_result": _rounded(right[answers.workers == number].mean()),
                "accuracy": _rounded(accuracy[number]),
                "confusion": [[_rounded(value) for value in row] for row in estimate.confusion[number]],
            }
            for number, name in enumerate(answered.workers)
        },
        "categories": list(categories),
        "dawid_skene": {"iterations": len(estimate.objective), "converged": estimate.converged},
    }


def _rounded(value: float) -> float:
    return round(float(value), 4)
