"""One labelling job from check to outcome: find it or make it, follow it, stop it when cancelled.

The job's name comes from its inputs and its tag holds their hash. So a component that is retried, in a new pod, finds the job
it made before and goes on waiting; and a job of the same name that was made from other inputs is refused, never taken for ours.
A deadline or a standstill ends the component, not the job: people's work goes on, and a later run picks it up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from penstock_components import aws, manifest, s3, waiting
from penstock_components.errors import ComponentError, several, wrong

from . import checks, request
from .outcome import Outcome, judge
from .request import Labelling

log = logging.getLogger(__name__)

ENDED = frozenset({"Completed", "Failed", "Stopped"})


def label(wanted: Labelling) -> Outcome:
    """Have the manifest's images labelled; returns when the job has ended well.

    Raises:
        ComponentError: something is wrong with the inputs (then nothing was started), or the job failed, was stopped, stands
            still, takes too long or labelled too little.
    """
    region = aws.client("sagemaker").meta.region_name
    content = s3.read(wanted.manifest_uri)
    records = manifest.parse(content, wanted.manifest_uri)
    _refuse(request.problems(wanted, records, region))
    page = s3.read(wanted.ui_template_uri) if wanted.ui_template_uri else request.template(wanted)
    inputs = request.inputs_hash(wanted, content, page)
    name = request.job_name(wanted, inputs)
    folder = s3.join(wanted.output_uri, "inputs", name)
    template_uri = wanted.ui_template_uri or s3.join(folder, "template.liquid.html")
    wish = request.create(wanted, name, inputs, template_uri, s3.join(folder, "label-categories.json"), region)

    with waiting.stop_on_signal(_stopper(wanted, name)):
        found = _find(name)
        if found is None:
            _refuse(checks.remote_problems(wanted, records, page, region))
            if not wanted.ui_template_uri:
                s3.write(template_uri, page, "text/html")
            s3.write(wish["LabelCategoryConfigS3Uri"], request.categories(wanted.label_categories), "application/json")
            found = _create(name, wish)
        _same(name, wish, found)
        return judge(wanted, _follow(wanted, name, found["CreationTime"]), records)


def _find(name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = aws.client("sagemaker").describe_labeling_job(LabelingJobName=name)
    except ClientError as error:
        if aws.code(error) in {"ResourceNotFound", "ResourceNotFoundException"}:
            return None
        raise
    return found


def _create(name: str, wish: dict[str, Any]) -> dict[str, Any]:
    try:
        aws.client("sagemaker").create_labeling_job(**wish)
        log.info("labelling job %s started", name)
    except ClientError as error:
        # A request that was done but whose answer was lost is sent again by boto3, and meets its own job.
        if aws.code(error) not in {"ResourceInUse", "ResourceInUseException"}:
            raise ComponentError(f"labelling job {name} was refused: {aws.message(error)}") from error
    found = _find(name)
    if found is None:
        raise ComponentError(f"labelling job {name}: the name is in use, but in other letter case; choose another job_name")
    return found


def _same(name: str, wish: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuse a job that was made from other inputs."""
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    if tags.get(request.TAG) != wish["Tags"][0]["Value"]:
        differs = request.differences(wish, found) or ["the content of the manifest, the template or another input"]
        raise several(
            f"labelling job {name} exists and was made from other inputs; give another job_name or none. What differs:", differs
        )
    log.info("labelling job %s: %s", name, found["LabelingJobArn"])


def _follow(wanted: Labelling, name: str, created: datetime) -> dict[str, Any]:
    hint = f"; the job goes on, a new run of this step waits for it again ({name})"
    portal = checks.portal(wanted)
    if portal:
        log.info("workers label at https://%s", portal)

    def describe() -> dict[str, Any]:
        found: dict[str, Any] = aws.client("sagemaker").describe_labeling_job(LabelingJobName=name)
        return found

    try:
        return waiting.poll(
            describe,
            until=lambda job: job["LabelingJobStatus"] in ENDED,
            every=wanted.poll_seconds,
            deadline=wanted.deadline_hours * 3600,
            standstill=wanted.stall_hours * 3600,
            describe_state=_line,
            progress=lambda job: [job["LabelingJobStatus"], sorted(job["LabelCounters"].items())],
            forgive=aws.patience,
            age=(datetime.now(UTC) - created).total_seconds(),
        )
    except waiting.Standstill as error:
        team = f"check that work team {wanted.workteam_arn} has members who have accepted their invitation and can log in"
        raise ComponentError(f"{error}; {team}{f' at https://{portal}' if portal else ''}{hint}") from error
    except waiting.Unanswered as error:
        raise ComponentError(f"{error}{hint}") from error
    except waiting.Overdue as error:
        raise ComponentError(f"{error}{hint} if deadline_hours is above the job's age") from error


def _line(job: dict[str, Any]) -> str:
    counters: dict[str, int] = job["LabelCounters"]
    human, machine = counters.get("HumanLabeled", 0), counters.get("MachineLabeled", 0)
    failed, left = counters.get("FailedNonRetryableError", 0), counters.get("Unlabeled", 0)
    labelled, status = counters.get("TotalLabeled", human + machine), job["LabelingJobStatus"]
    return f"{status}: {labelled} labelled ({human} by people, {machine} by model), {failed} failed, {left} left"


def _stopper(wanted: Labelling, name: str) -> Callable[[], None]:
    def stop() -> None:
        if not wanted.stop_on_cancel:
            log.warning("labelling job %s goes on (stop_on_cancel is off)", name)
            return
        found = _find(name)
        if found is None or found["LabelingJobStatus"] in ENDED | {"Stopping"}:
            return
        aws.client("sagemaker").stop_labeling_job(LabelingJobName=name)
        log.warning("labelling job %s is being stopped", name)

    return stop


def _refuse(problems: list[str]) -> None:
    if problems:
        raise several(f"no labelling job was started, {wrong(len(problems), 'thing')}:", problems)
