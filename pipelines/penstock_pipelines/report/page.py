"""The run's page: what was labelled, how far the workers agree, the split, the training, the test, the endpoint, the time.

It reads what the steps left in S3; nothing is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure

from penstock_components import report, s3
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube

from . import times


def make(
    run_id: str,
    run_uri: str,
    labels_report_uri: str,
    labelling_job: str,
    metrics_uri: str,
    threshold: float,
    endpoint: str,
    endpoint_url: str = "",
    predictions_uri: str = "",
    predicted: Mapping[str, float] | None = None,
    namespace: str = "",
) -> tuple[str, str]:
    """Write `<run_uri>/report.html`; its URI and its text.

    Raises:
        ComponentError: something a step should have left is not there or is not JSON.
    """
    found = times.spans(Kube(namespace), run_uri, labelling_job, endpoint if endpoint_url else "")
    parts = [
        *_labels(_json(labels_report_uri), labelling_job),
        *_data(_json(s3.join(run_uri, "dataset", "dataset.json"))),
        *_training(_json(s3.join(run_uri, "model", "model.json"))),
        *_test(_json(metrics_uri)["metrics"], threshold),
        *_serving(endpoint_url, predictions_uri, predicted or {}, threshold),
        *_time(found),
    ]
    html = report.page(f"Run {run_id}", *parts)
    uri = s3.join(run_uri, "report.html")
    s3.write(uri, html.encode(), "text/html")
    return uri, html


def _labels(about: dict[str, Any], job: str) -> Iterator[str]:
    objects, agreement = about["objects"], about["agreement"]
    yield report.heading("Labels")
    yield report.facts(
        {
            "labelling job": job,
            "objects": objects["all"],
            "answered": objects["answered"],
            "mean confidence": objects["mean_confidence"],
            "all workers agree": agreement["unanimous"],
            "no majority": agreement["ties"],
            "Fleiss' kappa": "none" if agreement["fleiss_kappa"] is None else agreement["fleiss_kappa"],
            "changed from the majority": len(about["changed_from_majority"]),
        }
    )
    yield report.table(["class", "objects"], objects["classes"].items())
    rows = [[name, each["answers"], each["agrees_with_result"], each["accuracy"]] for name, each in about["workers"].items()]
    yield report.table(["worker", "answers", "agrees with the result", "estimated accuracy"], rows)


def _data(about: dict[str, Any]) -> Iterator[str]:
    yield report.heading("Data")
    yield report.paragraph(f"Samples of shape {tuple(about['shape'])}, {about['dtype']}.")
    splits = list(about["counts"])
    rows = [[name, *(about["counts"][split].get(name, 0) for split in splits)] for name in about["classes"]]
    yield report.table(["class", *splits], rows)


def _training(about: dict[str, Any]) -> Iterator[str]:
    yield report.heading("Training")
    yield report.facts({"bytes": about["bytes"], "SHA-256": about["sha256"], **about.get("metrics", {})})
    if about.get("history"):
        yield report.plot(_curve(about["history"]), "loss and validation accuracy by epoch")


def _curve(history: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(9, 3.5))
    loss, accuracy = figure.subplots(1, 2)
    epochs = [each["epoch"] for each in history]
    for name in ("loss", "validation_loss"):
        loss.plot(epochs, [each[name] for each in history], marker=".", label=name.replace("_", " "))
    accuracy.plot(epochs, [each["validation_accuracy"] for each in history], marker=".", label="validation accuracy")
    for axes in (loss, accuracy):
        axes.set(xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _test(metrics: dict[str, float], threshold: float) -> Iterator[str]:
    yield report.heading("Test")
    yield report.facts({**metrics, "accuracy wanted": threshold})


def _serving(url: str, predictions_uri: str, predicted: Mapping[str, float], threshold: float) -> Iterator[str]:
    yield report.heading("Endpoint")
    if not url:
        yield report.paragraph(f"The gate held the model back: accuracy at least {threshold:g}, and above the baseline's.")
        return
    yield report.facts({"URL in the cluster": url, "predictions": predictions_uri})
    yield report.table(["predicted class", "samples"], [[name, int(count)] for name, count in sorted(predicted.items())])


def _time(found: list[times.Span]) -> Iterator[str]:
    if not found:
        return
    yield report.heading("Where the time went")
    yield report.plot(times.figure(found), "begin and end of what was under way, in minutes")
    begin, end = min(span.begin for span in found), max(span.end for span in found)
    rows = [[each.what, f"{each.begin:%Y-%m-%d %H:%M:%S}", round(each.seconds)] for each in found]
    yield report.table(["", "begin (UTC)", "seconds"], rows)
    yield report.paragraph(f"From the first begin to the last end: {(end - begin).total_seconds():.0f} s.")


def _json(uri: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(s3.read(uri))
    except json.JSONDecodeError as error:
        raise ComponentError(f"{uri} is not JSON ({error}); the step that writes it left something else") from error
    return found
