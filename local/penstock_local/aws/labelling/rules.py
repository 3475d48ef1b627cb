"""Which labelling jobs SageMaker makes, and which manifests it accepts. Pure.

Amazon SageMaker API Reference, CreateLabelingJob, HumanTaskConfig; Developer Guide, "Input data", "Input data quotas". What the
call refuses is a ValidationException; what only reading the input shows makes the job Failed with a FailureReason. The codes
are those of the reference, the wording is ours.
"""

from __future__ import annotations

import json
from typing import Any, Final

from penstock_local.aws.errors import AWSError, not_implemented

_LAMBDA_ACCOUNTS: Final = {
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
_PUBLIC: Final = "394669845002:workteam/public-crowd/"
_LINE_CHARACTERS: Final = 100_000
_OBJECTS: Final = 100_000
_TASK_SECONDS: Final = 28_800
_AVAILABLE_SECONDS: Final = 2_592_000


def check_new(region: str, request: dict[str, Any]) -> None:
    """Raises AWSError for a CreateLabelingJob request that is refused."""
    source, people = request["InputConfig"]["DataSource"], request["HumanTaskConfig"]
    if "LabelingJobAlgorithmsConfig" in request:
        raise not_implemented("automated labelling (LabelingJobAlgorithmsConfig)")
    if "SnsDataSource" in source:
        raise not_implemented("a streaming labelling job (SnsDataSource)")
    if "S3DataSource" not in source:
        raise invalid("InputConfig.DataSource needs an S3DataSource or an SnsDataSource.")
    _check_attribute(request["LabelAttributeName"])
    for name, uri in (("ManifestS3Uri", source["S3DataSource"]["ManifestS3Uri"]), ("S3OutputPath", output(request))):
        if not uri.startswith("s3://"):
            raise invalid(f"{name} must be an s3:// URI: {uri}")
    if _PUBLIC in people["WorkteamArn"]:
        raise invalid("The public workforce is not available; use a private or vendor work team.")
    _check_functions(region, people)
    ui = people["UiConfig"]
    if ("UiTemplateS3Uri" in ui) == ("HumanTaskUiArn" in ui):
        raise invalid("UiConfig needs exactly one of UiTemplateS3Uri and HumanTaskUiArn.")
    if "HumanTaskUiArn" in ui:
        raise invalid("HumanTaskUiArn is not supported for image classification; give a UiTemplateS3Uri.")
    if people["TaskTimeLimitInSeconds"] > _TASK_SECONDS:
        raise invalid(f"TaskTimeLimitInSeconds must be at most {_TASK_SECONDS} for images.")
    if not people["TaskTimeLimitInSeconds"] <= people.get("TaskAvailabilityLifetimeInSeconds", 864_000) <= _AVAILABLE_SECONDS:
        raise invalid(f"TaskAvailabilityLifetimeInSeconds must be from TaskTimeLimitInSeconds to {_AVAILABLE_SECONDS}.")
    if "PublicWorkforceTaskPrice" in people:
        raise invalid("PublicWorkforceTaskPrice is for the public workforce only.")


def lines(manifest: bytes) -> list[dict[str, Any]]:
    """The lines of an input manifest.

    Raises:
        ValueError: the reason for which the job fails.
    """
    try:
        text = manifest.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the manifest is not UTF-8: {error}") from None
    found = [_line(number, line) for number, line in enumerate(text.splitlines(), start=1)]
    if not 1 <= len(found) <= _OBJECTS:
        raise ValueError(f"the manifest has {len(found)} lines; it must have 1 to {_OBJECTS}")
    return found


def labels(categories: bytes) -> list[str]:
    """The labels of a category configuration file.

    Raises:
        ValueError: the reason for which the job fails.
    """
    try:
        found = [str(each["label"]) for each in json.loads(categories)["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the label category configuration is invalid: {type(error).__name__}: {error}") from None
    if len(found) < 2 or len(set(found)) < len(found):
        raise ValueError(f"the label category configuration must have at least 2 different labels, it has {found}")
    return found


def output(request: dict[str, Any]) -> str:
    """Where the output goes, without the slash at its end."""
    return str(request["OutputConfig"]["S3OutputPath"]).rstrip("/")


def invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)


def _check_attribute(name: str) -> None:
    if name.endswith(("-metadata", "-ref")) or name in ("source", "source-ref"):
        raise invalid(f"LabelAttributeName {name} must not end in -metadata or, for this task type, -ref, nor be source.")


def _check_functions(region: str, people: dict[str, Any]) -> None:
    """Only the built-in functions of image classification; those of another region are refused as by AWS."""
    given = {
        "PRE-": people.get("PreHumanTaskLambdaArn"),
        "ACS-": people.get("AnnotationConsolidationConfig", {}).get("AnnotationConsolidationLambdaArn"),
    }
    for start, arn in given.items():
        if arn is None:
            raise not_implemented(f"a labelling job without a {start}ImageMultiClass function")
        _, _, _, place, account, _, function = arn.split(":", 6)
        if account in _LAMBDA_ACCOUNTS.values() and (place != region or _LAMBDA_ACCOUNTS.get(region) != account):
            raise invalid(f"The function {arn} is not in region {region}.")
        if account not in _LAMBDA_ACCOUNTS.values() or function != f"{start}ImageMultiClass":
            raise not_implemented(f"the labelling function {arn}")


def _line(number: int, line: str) -> dict[str, Any]:
    if len(line) > _LINE_CHARACTERS:
        raise ValueError(f"line {number} of the manifest has {len(line)} characters, more than {_LINE_CHARACTERS}")
    try:
        fields = json.loads(line)
    except ValueError:
        raise ValueError(f"line {number} of the manifest is not JSON: {line[:80]}") from None
    source = fields.get("source-ref") if isinstance(fields, dict) else None
    if not isinstance(source, str) or not source.startswith("s3://"):
        raise ValueError(f"line {number} of the manifest has no source-ref with an s3:// URI: {line[:80]}")
    return dict(fields)
