"""Labelling jobs as their API sees them; `progress` does the work.

Amazon SageMaker API Reference: CreateLabelingJob, DescribeLabelingJob, ListLabelingJobs, StopLabelingJob.
Initializing, InProgress, then Completed, Failed, or Stopping and Stopped. Names are unique for ever and not case-sensitive. A
work team nobody works in leaves its jobs InProgress.
"""

from __future__ import annotations

from typing import Any, Final

from penstock_local.aws.errors import AWSError
from penstock_local.aws.labelling import rules, workteams
from penstock_local.aws.labelling.state import Job
from penstock_local.aws.pages import page
from penstock_local.aws.world import Caller, Handler, World

_RUNNING: Final = ("Initializing", "InProgress")
_SORT: Final = {"Name": lambda job: job.name.lower(), "CreationTime": lambda job: job.created, "Status": lambda job: job.status}


def create(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    name = request["LabelingJobName"]
    if (*caller, name.lower()) in world.labelling.jobs:
        raise AWSError("ResourceInUse", f"A labeling job named {name} exists already.")
    rules.check_new(caller.region, request)
    arn = request["HumanTaskConfig"]["WorkteamArn"]
    if workteams.find(world, caller, arn.rpartition("/")[2])["WorkteamArn"] != arn:
        raise rules.invalid(f"The work team {arn} does not exist in {caller.region}.")
    job = Job(name, *caller, request)
    world.labelling.jobs[(*caller, name.lower())] = job
    return {"LabelingJobArn": job.arn}


def describe(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    job = find(world, caller, request["LabelingJobName"])
    kept = (
        "LabelAttributeName",
        "OutputConfig",
        "RoleArn",
        "LabelCategoryConfigS3Uri",
        "StoppingConditions",
        "HumanTaskConfig",
    )
    return {
        **_summary(job),
        **{key: job.request[key] for key in (*kept, "Tags") if key in job.request},
        "JobReferenceCode": job.code,
    }


def list_(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    found = [job for key, job in world.labelling.jobs.items() if key[:2] == caller and _asked_for(job, request)]
    found.sort(key=_SORT[request.get("SortBy", "CreationTime")], reverse=request.get("SortOrder") == "Descending")
    try:
        shown, following = page(found, request.get("MaxResults", 100), request.get("NextToken"))
    except ValueError as error:
        raise rules.invalid(str(error)) from None
    return {"LabelingJobSummaryList": [_listed(job) for job in shown], **following}


def stop(world: World, caller: Caller, request: dict[str, Any]) -> dict[str, Any]:
    job = find(world, caller, request["LabelingJobName"])
    if job.status in _RUNNING:
        job.become("Stopping")
    elif job.status != "Stopping":
        raise rules.invalid(f"The request was rejected because the labeling job is in status {job.status}.")
    return {}


def find(world: World, caller: Caller, name: str) -> Job:
    """Raises ResourceNotFound."""
    job = world.labelling.jobs.get((*caller, name.lower()))
    if job is None:
        raise AWSError("ResourceNotFound", f"The labeling job {name} does not exist.")
    return job


def fail(world: World, name: str, reason: str) -> None:
    """For the control API: every job of this name that runs, in any region. Raises ValueError where there is none."""
    found = [job for job in world.labelling.jobs.values() if job.name.lower() == name.lower() and job.status in _RUNNING]
    if not found:
        raise ValueError(f"no labelling job {name!r} is running")
    for job in found:
        job.become("Failed", reason[:1024])


def _summary(job: Job) -> dict[str, Any]:
    """What describe and list have in common."""
    return {
        "LabelingJobName": job.name,
        "LabelingJobArn": job.arn,
        "LabelingJobStatus": job.status,
        "CreationTime": job.created,
        "LastModifiedTime": job.modified,
        "LabelCounters": {
            "TotalLabeled": len(job.answers),
            "HumanLabeled": len(job.answers),
            "MachineLabeled": 0,
            "FailedNonRetryableError": len(job.failed),
            "Unlabeled": len(job.waiting),
        },
        "InputConfig": job.request["InputConfig"],
        **({"FailureReason": job.failure} if job.failure else {}),
        **({"LabelingJobOutput": {"OutputDatasetS3Uri": job.output}} if job.output else {}),
    }


def _listed(job: Job) -> dict[str, Any]:
    people = job.request["HumanTaskConfig"]
    consolidation = people["AnnotationConsolidationConfig"]["AnnotationConsolidationLambdaArn"]
    functions = {"PreHumanTaskLambdaArn": people["PreHumanTaskLambdaArn"], "AnnotationConsolidationLambdaArn": consolidation}
    return {**_summary(job), "WorkteamArn": people["WorkteamArn"], **functions}


def _asked_for(job: Job, request: dict[str, Any]) -> bool:
    never = float("inf")
    return (
        request.get("NameContains", "").lower() in job.name.lower()
        and request.get("StatusEquals", job.status) == job.status
        and request.get("CreationTimeAfter", 0) <= job.created <= request.get("CreationTimeBefore", never)
        and request.get("LastModifiedTimeAfter", 0) <= job.modified <= request.get("LastModifiedTimeBefore", never)
    )


ACTIONS: Final[dict[str, Handler]] = {
    "CreateLabelingJob": create,
    "DescribeLabelingJob": describe,
    "ListLabelingJobs": list_,
    "StopLabelingJob": stop,
}
