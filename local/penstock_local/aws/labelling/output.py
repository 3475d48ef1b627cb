"""What a labelling job leaves in S3, where Ground Truth leaves it.

SageMaker Developer Guide, "Labeling job output data". Under `<S3OutputPath>/<job name>/`:

    annotations/worker-response/iteration-1/<line, from 0>/<time>.json     {"answers": [...]}, written as workers answer
    annotations/consolidated-annotation/consolidation-request/iteration-1/<time>.json
    annotations/consolidated-annotation/consolidation-response/iteration-1/<time>.json
    manifests/output/output.manifest                                       the input's lines with label and metadata

A line whose object failed gets the metadata alone, with its failure-reason; one that nobody labelled stays as it was. All is in
iteration 1; the service uses a further one per batch.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from penstock_local.aws import buckets
from penstock_local.aws.labelling import rules
from penstock_local.aws.labelling.consolidation import Label, consolidated
from penstock_local.aws.labelling.state import Job
from penstock_local.aws.labelling.workers import Answer


def write_responses(job: Job, number: int) -> None:
    """The workers' answers for one object."""
    given = job.answers[number]
    time = _file_time(max(answer.submitted for answer in given))
    body = {"answers": [_answer(job, answer) for answer in given]}
    _put(job, f"annotations/worker-response/iteration-1/{number}/{time}.json", json.dumps(body))


def write_results(job: Job) -> None:
    """The consolidated labels and the output manifest, of as many objects as have answers."""
    now = datetime.now(UTC)
    labels = consolidated(job.answers, len(job.labels))
    request = [_asked(job, number) for number in sorted(labels)]
    response = [_consolidated(job, number, labels[number], now) for number in sorted(labels)]
    time, place = _file_time(now.timestamp()), "annotations/consolidated-annotation/consolidation"
    if labels:
        _put(job, f"{place}-request/iteration-1/{time}.json", json.dumps(request))
        _put(job, f"{place}-response/iteration-1/{time}.json", json.dumps(response))
    lines = [json.dumps(_line(job, number, labels.get(number), now)) for number in range(len(job.lines))]
    job.output = _put(job, "manifests/output/output.manifest", "".join(f"{line}\n" for line in lines))


def _line(job: Job, number: int, label: Label | None, now: datetime) -> dict[str, Any]:
    name, line = job.request["LabelAttributeName"], dict(job.lines[number])
    if label is not None:
        return {**line, **_result(job, label, now)}
    if number in job.failed:
        about = {"failure-reason": job.failed[number], "job-name": _job_name(job), "human-annotated": "yes"}
        about |= {"type": "groundtruth/image-classification", "creation-date": _date(now)}
        return {**line, f"{name}-metadata": about}
    return line


def _result(job: Job, label: Label, now: datetime) -> dict[str, Any]:
    name = job.request["LabelAttributeName"]
    metadata = {
        "class-name": job.labels[label.category],
        "job-name": _job_name(job),
        "confidence": label.confidence,
        "type": "groundtruth/image-classification",
        "human-annotated": "yes",
        "creation-date": _date(now),
    }
    return {name: label.category, f"{name}-metadata": metadata}


def _answer(job: Job, answer: Answer) -> dict[str, Any]:
    return {
        "acceptanceTime": _time(answer.accepted),
        "answerContent": {"crowd-image-classifier": {"label": job.labels[answer.label]}},
        "submissionTime": _time(answer.submitted),
        "timeSpentInSeconds": round(answer.submitted - answer.accepted, 3),
        "workerId": answer.worker,
        "workerMetadata": {"identityData": {"identityProviderType": "Cognito", "issuer": job.team, "sub": answer.worker}},
    }


def _asked(job: Job, number: int) -> dict[str, Any]:
    """One dataset object of what a consolidation function is given."""
    annotations = []
    for answer in job.answers[number]:
        content = json.dumps({"crowd-image-classifier": {"label": job.labels[answer.label]}})
        annotations.append({"workerId": answer.worker, "annotationData": {"content": content}})
    where = {"s3Uri": job.lines[number]["source-ref"]}
    return {"datasetObjectId": str(number), "dataObject": where, "annotations": annotations}


def _consolidated(job: Job, number: int, label: Label, now: datetime) -> dict[str, Any]:
    return {"datasetObjectId": str(number), "consolidatedAnnotation": {"content": _result(job, label, now)}}


def _put(job: Job, place: str, text: str) -> str:
    uri = f"{rules.output(job.request)}/{job.name}/{place}"
    bucket, key = buckets.parse(uri)
    buckets.write(job.account, bucket, key, text.encode())
    return uri


def _job_name(job: Job) -> str:
    return f"labeling-job/{job.name.lower()}"


def _date(now: datetime) -> str:
    return now.replace(tzinfo=None).isoformat(timespec="microseconds")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _file_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d_%H:%M:%S")
