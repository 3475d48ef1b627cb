"""What is asked of Ground Truth: the settings, what is wrong with them, the name of the job and the request. No I/O.

Rules and limits are those of the SageMaker API reference (CreateLabelingJob) and developer guide (limits, label attribute
names, Lambda accounts), read in November 2026. All that can be known to be wrong is found here or in `checks`, before the
job is made: a labelling job that starts costs people's time.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from penstock_components import names, s3
from penstock_components.manifest import Record, class_name

TAG: Final = "penstock.dev/inputs"

# Accounts that own the built-in pre- and post-annotation Lambda functions of each region.
LAMBDA_ACCOUNTS: Final = {
    "us-east-1": "432418664414",
    "us-east-2": "266458841044",
    "us-west-2": "081040173940",
    "ca-central-1": "918755190332",
    "eu-west-1": "568282634449",
    "eu-west-2": "487402164563",
    "eu-central-1": "203001061592",
    "ap-northeast-1": "477331159723",
    "ap-northeast-2": "845288260483",
    "ap-south-1": "565803892007",
    "ap-southeast-1": "377565633583",
    "ap-southeast-2": "454466003867",
}
ALGORITHMS_ACCOUNT: Final = "027400017018"
AUTO_LABELLING_MINIMUM: Final = 1250
MAX_TASK_SECONDS: Final = 28_800
MAX_AVAILABILITY_HOURS: Final = 720

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_WORKTEAM = re.compile(r"arn:aws[a-z-]*:sagemaker:(?P<region>[a-z0-9-]+):\d{12}:workteam/(?P<crowd>[^/]+)/(?P<name>[^/]+)")

_TEMPLATE = """\
<script src="https://assets.crowd.aws/crowd-html-elements.js"></script>
<crowd-form>
  <crowd-image-classifier name="crowd-image-classifier" src="{{{{ task.input.taskObject | grant_read_access }}}}"
      header="{header}" categories="{{{{ task.input.labels | to_json | escape }}}}">
    <full-instructions header="Instructions">{instructions}</full-instructions>
    <short-instructions>{instructions}</short-instructions>
  </crowd-image-classifier>
</crowd-form>
"""


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """The component's inputs; its README says what each means. Empty strings and zeros mean "not set"."""

    manifest_uri: str
    output_uri: str
    label_attribute: str
    label_categories: list[str]
    role_arn: str
    workteam_arn: str
    title: str
    description: str
    instructions: str = ""
    ui_template_uri: str = ""
    workers_per_object: int = 3
    task_seconds: int = 300
    task_availability_hours: float = 240.0
    max_concurrent_tasks: int = 1000
    max_human_labelled_objects: int = 0
    auto_labelling: bool = False
    initial_model_arn: str = ""
    pre_lambda_arn: str = ""
    consolidation_lambda_arn: str = ""
    content_classifiers: list[str] = field(default_factory=list)
    kms_key_id: str = ""
    job_name: str = ""
    attempt: int = 1
    # How the job is waited for, no part of what it is:
    min_labelled_fraction: float = 0.95
    stall_hours: float = 48.0
    deadline_hours: float = 720.0
    poll_seconds: float = 30.0
    stop_on_cancel: bool = True


_WAITING = {"job_name", "min_labelled_fraction", "stall_hours", "deadline_hours", "poll_seconds", "stop_on_cancel"}


def problems(wanted: Labelling, records: Sequence[Record], region: str) -> list[str]:
    """Everything wrong with the settings and the manifest that shows without asking AWS; each names its input."""
    found = [*_attribute_problems(wanted.label_attribute), *_category_problems(wanted.label_categories)]
    if wanted.job_name and (len(wanted.job_name) > 63 or not _NAME.fullmatch(wanted.job_name)):
        found.append(f"job_name {wanted.job_name!r}: letters, digits and single hyphens between them, at most 63 characters")
    if not _ROLE.fullmatch(wanted.role_arn):
        found.append(f"role_arn {wanted.role_arn!r} is not a role's ARN; expected arn:aws:iam::<account>:role/<name>")
    found += _workteam_problems(wanted.workteam_arn, region)
    for name, value, limit in (("title", wanted.title, 128), ("description", wanted.description, 255)):
        if not 1 <= len(value) <= limit:
            found.append(f"{name} has {len(value)} characters; workers see it, it needs 1 to {limit}")
    for name, number, least, most in (
        ("workers_per_object", wanted.workers_per_object, 1, 9),
        ("task_seconds", wanted.task_seconds, 30, MAX_TASK_SECONDS),
        ("task_availability_hours", wanted.task_availability_hours, wanted.task_seconds / 3600, MAX_AVAILABILITY_HOURS),
        ("max_concurrent_tasks", wanted.max_concurrent_tasks, 1, 5000),
        ("min_labelled_fraction", wanted.min_labelled_fraction, 0, 1),
    ):
        if not least <= number <= most:
            found.append(f"{name} is {number}; allowed is {least:g} to {most:g}")
    for name, seconds in (("stall_hours", wanted.stall_hours), ("deadline_hours", wanted.deadline_hours)):
        if seconds <= 0:
            found.append(f"{name} is {seconds:g}; it must be above 0")
    if region not in LAMBDA_ACCOUNTS and not (wanted.pre_lambda_arn and wanted.consolidation_lambda_arn):
        found.append(
            f"region {region} has no built-in labelling functions known here; give pre_lambda_arn and consolidation_lambda_arn"
        )
    if wanted.auto_labelling and len(records) < AUTO_LABELLING_MINIMUM:
        found.append(f"auto_labelling needs {AUTO_LABELLING_MINIMUM} objects, the manifest has {len(records)}")
    if wanted.initial_model_arn and not wanted.auto_labelling:
        found.append("initial_model_arn is used by auto_labelling only; set auto_labelling or leave it out")
    if records and not unlabelled(records, wanted.label_attribute):
        found.append(f"every object has a label {wanted.label_attribute!r} already; nothing is left to label")
    return found


def unlabelled(records: Sequence[Record], attribute: str) -> list[Record]:
    """The records without a label of this attribute: all that Ground Truth asks people about."""
    return [record for record in records if class_name(record, attribute) is None]


def inputs_hash(wanted: Labelling, manifest: bytes, template: bytes) -> str:
    """SHA-256 (hex) of everything that makes this job what it is: settings, manifest and template by content."""
    settings = {key: value for key, value in asdict(wanted).items() if key not in _WAITING}
    content = [hashlib.sha256(data).hexdigest() for data in (manifest, template)]
    return hashlib.sha256(json.dumps([settings, content], sort_keys=True).encode()).hexdigest()


def job_name(wanted: Labelling, inputs: str) -> str:
    """The name given, else one made from the inputs: the same inputs give the same name, so a retry finds its job."""
    return wanted.job_name or names.deterministic(wanted.label_attribute, inputs)


def categories(labels: Sequence[str]) -> bytes:
    """The label category file (document version 2018-11-28)."""
    return json.dumps({"document-version": "2018-11-28", "labels": [{"label": label} for label in labels]}).encode()


def template(wanted: Labelling) -> bytes:
    """The built-in worker page, with the user's words in it as text."""

    def text(value: str) -> str:
        return html.escape(value).replace("{", "&#123;").replace("\n", "<br>")  # a brace would start a Liquid expression

    instructions = text(wanted.instructions or wanted.description)
    return _TEMPLATE.format(header=text(wanted.title), instructions=instructions).encode()


def template_problems(page: bytes, name: str) -> list[str]:
    """What in a worker page keeps answers or images from arriving."""
    needed = {
        "<crowd-form": "nothing can be submitted",
        'name="crowd-image-classifier"': "the consolidation function looks for answers by this name",
        "grant_read_access": "images will not load; write {{ task.input.taskObject | grant_read_access }}",
    }
    text = page.decode(errors="replace").replace("'", '"')
    return [f"{name}: no {what}: {why}" for what, why in needed.items() if what not in text]


def create(wanted: Labelling, name: str, inputs: str, template_uri: str, categories_uri: str, region: str) -> dict[str, Any]:
    """The parameters of CreateLabelingJob."""
    account = LAMBDA_ACCOUNTS.get(region)
    functions = f"arn:aws:lambda:{region}:{account}:function"
    request: dict[str, Any] = {
        "LabelingJobName": name,
        "LabelAttributeName": wanted.label_attribute,
        "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": wanted.manifest_uri}}},
        "OutputConfig": {"S3OutputPath": s3.join(wanted.output_uri, "")},
        "RoleArn": wanted.role_arn,
        "LabelCategoryConfigS3Uri": categories_uri,
        "HumanTaskConfig": {
            "WorkteamArn": wanted.workteam_arn,
            "UiConfig": {"UiTemplateS3Uri": template_uri},
            "PreHumanTaskLambdaArn": wanted.pre_lambda_arn or f"{functions}:PRE-ImageMultiClass",
            "TaskTitle": wanted.title,
            "TaskDescription": wanted.description,
            "NumberOfHumanWorkersPerDataObject": wanted.workers_per_object,
            "TaskTimeLimitInSeconds": wanted.task_seconds,
            "TaskAvailabilityLifetimeInSeconds": round(wanted.task_availability_hours * 3600),
            "MaxConcurrentTaskCount": wanted.max_concurrent_tasks,
            "AnnotationConsolidationConfig": {
                "AnnotationConsolidationLambdaArn": wanted.consolidation_lambda_arn or f"{functions}:ACS-ImageMultiClass"
            },
        },
        "Tags": [{"Key": TAG, "Value": inputs}],
    }
    if wanted.kms_key_id:
        request["OutputConfig"]["KmsKeyId"] = wanted.kms_key_id
    if wanted.content_classifiers:
        request["InputConfig"]["DataAttributes"] = {"ContentClassifiers": wanted.content_classifiers}
    if wanted.max_human_labelled_objects:
        request["StoppingConditions"] = {"MaxHumanLabeledObjectCount": wanted.max_human_labelled_objects}
    if wanted.auto_labelling:
        arn = f"arn:aws:sagemaker:{region}:{ALGORITHMS_ACCOUNT}:labeling-job-algorithm-specification/image-classification"
        algorithms = {"LabelingJobAlgorithmSpecificationArn": arn}
        if wanted.initial_model_arn:
            algorithms["InitialActiveLearningModelArn"] = wanted.initial_model_arn
        request["LabelingJobAlgorithmsConfig"] = algorithms
    return request


def differences(wanted: dict[str, Any], found: dict[str, Any], path: str = "") -> list[str]:
    """Where an existing job differs from the request, as "TaskTitle is 'a', wanted 'b'"; fields AWS adds do not count."""
    lines: list[str] = []
    for key, value in wanted.items():
        if key == "Tags":
            continue
        there = found.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            lines += differences(value, there, f"{path}{key}.")
        elif there != value:
            lines.append(f"{path}{key} is {there!r}, wanted {value!r}")
    return lines


def _attribute_problems(attribute: str) -> list[str]:
    named = f"label_attribute {attribute!r}"
    if not _NAME.fullmatch(attribute) or len(attribute) > 127:
        return [f"{named}: letters, digits and hyphens between them (no underscore), at most 127 characters"]
    if attribute.endswith(("-metadata", "-ref")):
        return [f"{named} must not end in -metadata or -ref, Ground Truth gives these endings a meaning"]
    return [f"{named} is the name of the object itself; choose another"] if attribute in {"source", "source-ref"} else []


def _category_problems(labels: Sequence[str]) -> list[str]:
    found = [f"label_categories: {label!r} is empty" for label in labels if not str(label).strip()]
    found += [f"label_categories: {label!r} stands twice" for label in sorted(set(labels)) if list(labels).count(label) > 1]
    return found if len(labels) >= 2 else [*found, f"label_categories has {len(labels)}; a choice needs at least 2"]


def _workteam_problems(arn: str, region: str) -> list[str]:
    match = _WORKTEAM.fullmatch(arn)
    if not match:
        return [f"workteam_arn {arn!r} is not a work team's ARN; `aws sagemaker list-workteams` shows them"]
    if match["crowd"] == "public-crowd":
        return ["workteam_arn is the public workforce (Mechanical Turk), which closed on 30 September 2026; use a private team"]
    if match["region"] != region:
        return [f"workteam_arn is in {match['region']}, the job would run in {region}; they must be the same"]
    return []


def private_workteam(arn: str) -> str | None:
    """The name of a private work team (DescribeWorkteam takes names); None for a vendor's."""
    match = _WORKTEAM.fullmatch(arn)
    return match["name"] if match and match["crowd"] == "private-crowd" else None
