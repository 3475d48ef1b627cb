"""How a labelling job goes on: its input is read, workers answer object after object, the output is written.

SageMaker Developer Guide, "Labeling job output data", "Chaining labeling jobs" (an object that has a label of this attribute is
not asked about again). An object fails, as far as AWS is known to do so, when it is not in S3; here also when the control API
says so or knows no truth for it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from penstock_local.aws import buckets
from penstock_local.aws.labelling import output, rules, workers
from penstock_local.aws.labelling.state import Job
from penstock_local.aws.labelling.workers import Crew
from penstock_local.aws.world import World

_AT_ONCE = 500  # objects of one beat, so that other calls get their turn


def beat(world: World) -> None:
    """Move every job on."""
    for job in list(world.labelling.jobs.values()):
        if job.status in ("InProgress", "Stopping") and _output_region(job) is None:
            job.become("Failed", f"ClientError: the output bucket of {rules.output(job.request)} does not exist")
        elif job.status == "Initializing" and job.after(world.settings.seconds("labelling.startSeconds")):
            _start(job)
        elif job.status == "InProgress":
            _label(world, job)
        elif job.status == "Stopping" and job.after(world.settings.seconds("labelling.stopSeconds")):
            _finish(job, "Stopped")


def _start(job: Job) -> None:
    try:
        job.lines = rules.lines(_read(job, job.request["InputConfig"]["DataSource"]["S3DataSource"]["ManifestS3Uri"]))
        if "LabelCategoryConfigS3Uri" not in job.request:
            raise ValueError("image classification needs a LabelCategoryConfigS3Uri")
        job.labels = rules.labels(_read(job, job.request["LabelCategoryConfigS3Uri"]))
        _read(job, job.request["HumanTaskConfig"]["UiConfig"]["UiTemplateS3Uri"])
        if _output_region(job) != job.region:
            raise ValueError(f"the output bucket of {rules.output(job.request)} does not exist in {job.region}")
    except ValueError as error:
        job.become("Failed", f"ClientError: {error}"[:1024])
        return
    name = job.request["LabelAttributeName"]
    job.waiting = [number for number, line in enumerate(job.lines) if not (name in line and f"{name}-metadata" in line)]
    job.become("InProgress")
    job.worked = job.since


def _label(world: World, job: Job) -> None:
    crew = world.labelling.crews.get(job.team)
    now, each = time.monotonic(), world.settings.seconds("labelling.secondsPerObject")
    if crew is not None and len(crew.workers) >= job.workers_per_object:
        job.earned += (now - job.worked) / each if each else math.inf
    job.worked = now
    room = _room(job)
    count = int(min(job.earned, _AT_ONCE, room, len(job.waiting)))
    if crew is not None and count:
        try:
            truth = _truth(job, crew)
        except ValueError as error:
            job.become("Failed", f"InternalError: the workers of this fake AWS do not know the truth: {error}"[:1024])
            return
        patterns = world.settings.patterns("labelling.failObjects")
        for number in job.waiting[:count]:
            _one(job, crew, number, truth, patterns)
        job.waiting = job.waiting[count:]
        job.earned = 0.0 if math.isinf(job.earned) else job.earned - count
        job.modified = time.time()
    if not job.waiting:
        _finish(job, "Completed")
    elif count == room:
        _finish(job, world.settings.choice("labelling.statusAtLimit"))


def _room(job: Job) -> float:
    """How many more objects the StoppingConditions allow."""
    conditions = job.request.get("StoppingConditions", {})
    done = len(job.answers)
    share = conditions.get("MaxPercentageOfInputDatasetLabeled", 100)
    most = math.inf if share == 100 else math.ceil(len(job.lines) * share / 100)
    people = float(conditions.get("MaxHumanLabeledObjectCount", math.inf))
    return max(min(most, people) - done, 0.0)


def _one(job: Job, crew: Crew, number: int, truth: Mapping[str, int], patterns: list[str]) -> None:
    uri = job.lines[number]["source-ref"]
    now = time.time()
    if any(fnmatchcase(uri, pattern) for pattern in patterns):
        job.failed[number] = "ClientError: The data object could not be labeled by the workers."
    elif not buckets.exists(job.account, uri):
        job.failed[number] = f"ClientError: The S3 object {uri} does not exist or cannot be read."
    elif uri not in truth:
        job.failed[number] = f"InternalError: the truth given to the workers of this fake AWS has no {uri}."
    else:
        try:
            given = workers.answers(crew, uri, truth[uri], len(job.labels), job.workers_per_object, now)
        except ValueError as error:
            job.failed[number] = f"InternalError: {error}"
            return
        job.answers[number] = given
        output.write_responses(job, number)


def _finish(job: Job, status: str) -> None:
    if job.labels:  # a job that is stopped before it began has no output
        output.write_results(job)
    job.become(status)


def _truth(job: Job, crew: Crew) -> Mapping[str, int]:
    if not crew.truth_uri:
        return crew.truth
    return _parsed(_read(job, crew.truth_uri))


@lru_cache(maxsize=4)
def _parsed(body: bytes) -> Mapping[str, int]:
    return workers.check_truth(json.loads(body))


def _output_region(job: Job) -> str | None:
    bucket, _ = buckets.parse(rules.output(job.request))
    return buckets.region(job.account, bucket)


def _read(job: Job, uri: str) -> bytes:
    bucket, key = buckets.parse(uri)
    found = buckets.read(job.account, bucket, key)
    if found is None:
        raise ValueError(f"cannot read {uri}: no such object")
    if buckets.region(job.account, bucket) != job.region:
        raise ValueError(f"cannot read {uri}: the bucket is not in {job.region}")
    return found.body
