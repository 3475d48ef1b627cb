"""Where a run's time went: begin and end of everything remote, as AWS and Kubernetes keep them.

The steps' own work (consolidating labels, writing shards, the gate) is what is left between the bars. Things of an earlier run
that this one found and used have their own, older times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from botocore.exceptions import ClientError
from matplotlib.figure import Figure

from penstock_components import adoption, aws
from penstock_components.deployment.deploy.request import ENDPOINT
from penstock_components.kube import Kube, Object
from penstock_pipelines import run as runs

NAMES: Final = {"evaluate": "evaluation", "predict": "prediction"}


class Span(NamedTuple):
    """What was under way, from when to when."""

    what: str
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()


def spans(kube: Kube, run_uri: str, labelling_job: str, endpoint: str) -> list[Span]:
    """All of them, by their begin; without what has no end yet."""
    found = [*_labelling(labelling_job), *_volumes(kube, run_uri), *_trainings(kube, run_uri), *_jobs(kube, run_uri)]
    found += _deployments(kube, endpoint) if endpoint else []
    return sorted(found, key=lambda span: span.begin)


def _labelling(name: str) -> Iterator[Span]:
    try:
        job = aws.client("sagemaker").describe_labeling_job(LabelingJobName=name)
    except ClientError:
        return
    yield Span("labelling", job["CreationTime"], job["LastModifiedTime"])


def _volumes(kube: Kube, run_uri: str) -> Iterator[Span]:
    for volume in runs.of_run(kube, runs.PENSTOCK, runs.LUSTRE_VOLUME, run_uri):
        conditions = volume.get("status", {}).get("conditions", [])
        good = [each["lastTransitionTime"] for each in conditions if each["status"] == "True"]
        yield from _span("making the file system", _created(volume), max(good, default=None))


def _trainings(kube: Kube, run_uri: str) -> Iterator[Span]:
    for job in runs.of_run(kube, runs.PENSTOCK, runs.TRAINING_JOB, run_uri):
        status = job.get("status", {})
        yield from _span("training waits for its place", _created(job), status.get("startTime"))
        yield from _span("training", status.get("startTime"), status.get("completionTime"))


def _jobs(kube: Kube, run_uri: str) -> Iterator[Span]:
    for job in runs.of_run(kube, "batch/v1", "Job", run_uri):
        what, status = str(job["metadata"]["labels"]["app.kubernetes.io/name"]), job.get("status", {})
        yield from _span(NAMES.get(what, what), status.get("startTime"), status.get("completionTime"))


def _deployments(kube: Kube, endpoint: str) -> Iterator[Span]:
    for each in kube.select("apps/v1", "Deployment", {ENDPOINT: endpoint}):
        ready = adoption.condition(each, "Available")
        yield from _span("deployment", _created(each), ready["lastTransitionTime"] if ready else None)


def _created(found: Object) -> str:
    return str(found["metadata"]["creationTimestamp"])


def _span(what: str, begin: str | None, end: str | None) -> Iterator[Span]:
    if begin and end and begin <= end:
        yield Span(what, datetime.fromisoformat(begin), datetime.fromisoformat(end))


def figure(found: list[Span]) -> Figure:
    """A bar for each span over minutes since the first began."""
    drawn = Figure(figsize=(9, 0.5 + 0.35 * len(found)))
    axes = drawn.add_subplot()
    first = min(span.begin for span in found)
    for row, span in enumerate(found):
        axes.barh(row, max(span.seconds / 60, 1e-3), left=(span.begin - first).total_seconds() / 60)
    axes.set_yticks(range(len(found)), [span.what for span in found])
    axes.invert_yaxis()
    axes.set(xlabel="minutes")
    axes.grid(axis="x", alpha=0.3)
    return drawn
