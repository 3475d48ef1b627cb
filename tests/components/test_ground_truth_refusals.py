"""What is told of a labelling request before a job is made of it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from tests.components.conftest import upload
from tests.components.labelling_jobs import changed, sagemaker, started, team, wanted

from penstock_components import manifest, s3
from penstock_components.errors import ComponentError
from penstock_components.labelling.ground_truth_labelling import request
from penstock_components.labelling.ground_truth_labelling.job import label
from penstock_components.labelling.ground_truth_labelling.request import Labelling
from penstock_local.aws import FakeAWS

__all__ = ["sagemaker", "team", "wanted"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_attribute": "an_animal"}, "label_attribute 'an_animal': .*no underscore"),
        ({"label_attribute": "animal-metadata"}, "must not end in -metadata or -ref"),
        ({"label_attribute": "animal-ref"}, "must not end in -metadata or -ref"),
        ({"label_attribute": "source"}, "is the name of the object itself"),
        ({"label_attribute": ""}, "label_attribute ''"),
        ({"label_categories": ["cat"]}, "label_categories has 1; a choice needs at least 2"),
        ({"label_categories": ["cat", "dog", "cat"]}, "'cat' stands twice"),
        ({"label_categories": ["cat", " "]}, "' ' is empty"),
        ({"job_name": "-x"}, "job_name '-x'"),
        ({"job_name": "x" * 64}, "at most 63 characters"),
        ({"role_arn": "labelling"}, "role_arn 'labelling' is not a role's ARN"),
        ({"workteam_arn": "team"}, "workteam_arn 'team' is not a work team's ARN"),
        (
            {"workteam_arn": "arn:aws:sagemaker:us-east-1:394669845002:workteam/public-crowd/default"},
            "Mechanical Turk.*closed on 30 September 2026",
        ),
        (
            {"workteam_arn": "arn:aws:sagemaker:eu-west-1:123456789012:workteam/private-crowd/t"},
            "workteam_arn is in eu-west-1, the job would run in us-east-1",
        ),
        ({"title": ""}, "title has 0 characters"),
        ({"description": "x" * 256}, "description has 256 characters"),
        ({"workers_per_object": 10}, "workers_per_object is 10; allowed is 1 to 9"),
        ({"workers_per_object": 0}, "workers_per_object is 0"),
        ({"task_seconds": 29}, "task_seconds is 29; allowed is 30 to 28800"),
        ({"task_availability_hours": 721.0}, "task_availability_hours is 721"),
        ({"max_concurrent_tasks": 5001}, "max_concurrent_tasks is 5001"),
        ({"min_labelled_fraction": 1.5}, "min_labelled_fraction is 1.5"),
        ({"stall_hours": 0.0}, "stall_hours is 0; it must be above 0"),
        ({"auto_labelling": True}, "auto_labelling needs 1250 objects, the manifest has 12"),
        ({"initial_model_arn": "arn:aws:sagemaker:us-east-1:123456789012:model/m"}, "used by auto_labelling only"),
        ({"workteam_arn": "arn:aws:sagemaker:us-east-1:123456789012:workteam/private-crowd/gone"}, "work team 'gone': "),
        ({"output_uri": "s3://never-made-bucket/x"}, "bucket 'never-made-bucket': there is no such bucket"),
        ({"manifest_uri": "s3://never-made-bucket/x"}, "there is no such bucket"),
        ({"output_uri": "/tmp/x"}, "'/tmp/x' is not an S3 URI"),
    ],
)
def test_a_wrong_setting_is_told_and_nothing_is_started(
    aws: FakeAWS, wanted: Labelling, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ComponentError, match=message):
        label(changed(wanted, **changes))
    assert started(aws) == []
    assert not list(s3.objects(wanted.output_uri))


def test_all_problems_come_in_one_error(wanted: Labelling) -> None:
    with pytest.raises(ComponentError, match=r"(?s)3 things are wrong.*title.*workers_per_object.*task_seconds"):
        label(changed(wanted, title="", workers_per_object=0, task_seconds=1))


def test_missing_and_too_large_images_are_named(aws: FakeAWS, bucket: str, wanted: Labelling) -> None:
    lines = upload(bucket, 12)
    lines[4]["source-ref"] = s3.join(bucket, "images/gone.png")
    s3.write(lines[6]["source-ref"], bytes(41 * 1024 * 1024))
    manifest.write(wanted.manifest_uri, lines)
    with pytest.raises(ComponentError, match=r"(?s)line 5 \(.*gone.png\): the image is not there.*line 7 .*at most 41943040"):
        label(wanted)
    assert started(aws) == []


def test_a_broken_manifest_line_is_named(aws: FakeAWS, wanted: Labelling) -> None:
    s3.write(wanted.manifest_uri, b'{"source-ref":"s3://b/1.png"}\n{"source-rf":"s3://b/2.png"}\n')
    with pytest.raises(ComponentError, match="line 2: no 'source-ref'"):
        label(wanted)
    assert started(aws) == []


def test_a_manifest_without_work_is_refused(wanted: Labelling) -> None:
    manifest.write(wanted.manifest_uri, [record.fields | {"animal": 1} for record in manifest.read(wanted.manifest_uri)])
    with pytest.raises(ComponentError, match="every object has a label 'animal' already"):
        label(wanted)


def test_a_bucket_in_another_region_is_refused(aws: FakeAWS, wanted: Labelling) -> None:
    there = f"test-{uuid.uuid4().hex[:12]}"
    aws.client("s3").create_bucket(Bucket=there, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    with pytest.raises(ComponentError, match=f"bucket '{there}' is in eu-west-1, the labelling job in us-east-1"):
        label(changed(wanted, output_uri=f"s3://{there}/labels"))
    assert started(aws) == []


def test_a_region_without_builtin_functions_wants_them_given(wanted: Labelling) -> None:
    records = manifest.read(wanted.manifest_uri)
    team = {"workteam_arn": wanted.workteam_arn.replace("us-east-1", "eu-north-1")}
    assert "region eu-north-1 has no built-in" in request.problems(changed(wanted, **team), records, "eu-north-1")[0]
    function = "arn:aws:lambda:eu-north-1:123456789012:function:mine"
    own = changed(wanted, **team, pre_lambda_arn=function, consolidation_lambda_arn=function)
    assert request.problems(own, records, "eu-north-1") == []


@pytest.mark.parametrize("missing", ["<crowd-form", 'name="crowd-image-classifier"', "grant_read_access"])
def test_a_worker_page_that_cannot_work_is_refused(aws: FakeAWS, bucket: str, wanted: Labelling, missing: str) -> None:
    page = request.template(wanted)
    assert request.template_problems(page, "page") == []
    s3.write(s3.join(bucket, "page.html"), page.replace(missing.encode(), b""))
    with pytest.raises(ComponentError, match=rf"page.html: no {missing}: "):
        label(changed(wanted, ui_template_uri=s3.join(bucket, "page.html")))
    assert started(aws) == []
