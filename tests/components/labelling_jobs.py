"""Labelling jobs of the tests: a team, a good request for twelve images, and what was asked of the fake AWS."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.components.conftest import upload

from penstock_components import manifest, s3
from penstock_components.labelling.ground_truth_labelling.request import Labelling
from penstock_local.aws import FakeAWS

ROLE = "arn:aws:iam::123456789012:role/labelling"
CLASSES = ["cat", "dog", "eel"]
FAST = {"labelling": {"startSeconds": 0.05, "secondsPerObject": 0.005, "stopSeconds": 0.05, "failObjects": []}}
NEVER = {"labelling": {"secondsPerObject": 3600}}


@pytest.fixture
def sagemaker(aws: FakeAWS) -> Iterator[Any]:
    """A SageMaker client; the labelling is fast, and what a test changes is put back."""
    aws.control.configure(FAST)
    aws.control.forget_calls()
    yield aws.client("sagemaker")
    aws.control.clear_faults()
    aws.control.configure(FAST)


@pytest.fixture(scope="session")
def team(fake_aws: FakeAWS) -> str:
    """The ARN of a private team that tests share, as an account may have 25."""
    member = {"CognitoMemberDefinition": {"UserPool": "us-east-1_abc", "UserGroup": "labellers", "ClientId": "client"}}
    made = fake_aws.client("sagemaker").create_workteam(
        WorkteamName=f"team-{uuid.uuid4().hex[:8]}", Description="labellers", MemberDefinitions=[member]
    )
    return str(made["WorkteamArn"])


@pytest.fixture
def wanted(aws: FakeAWS, sagemaker: Any, bucket: str, team: str) -> Labelling:
    """A good request for twelve images."""
    lines = upload(bucket, 12)
    truth = {line["source-ref"]: place % 3 for place, line in enumerate(lines)}
    workers = [{"id": worker, "accuracy": 0.95} for worker in ("ann", "bob", "cid")]
    aws.control.workers(team.rpartition("/")[2], workers, truth=truth)
    manifest.write(s3.join(bucket, "input.manifest"), lines)
    return Labelling(
        manifest_uri=s3.join(bucket, "input.manifest"),
        output_uri=s3.join(bucket, "labels"),
        label_attribute="animal",
        label_categories=CLASSES,
        role_arn=ROLE,
        workteam_arn=team,
        title="Which animal?",
        description="Choose the animal.",
        job_name=f"animals-{uuid.uuid4().hex[:8]}",
        poll_seconds=0.05,
    )


def changed(wanted: Labelling, **changes: Any) -> Labelling:
    return dataclasses.replace(wanted, **changes)


def started(aws: FakeAWS) -> list[str]:
    """Names of the jobs that were asked for, in order."""
    return [call["parameters"]["LabelingJobName"] for call in aws.control.calls("sagemaker", "CreateLabelingJob")]
