"""Labelling jobs: from the manifest to labels, through workers who err."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from penstock_local.aws import FakeAWS

Make = Callable[..., Any]


def lines(s3: Any, uri: str) -> list[dict[str, Any]]:
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return [json.loads(line) for line in body.decode().splitlines()]


def keys(s3: Any, bucket: str, prefix: str) -> list[str]:
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [each["Key"].removeprefix(prefix) for each in found]


def test_a_job_labels_every_object_and_keeps_the_manifest_s_fields(
    s3: Any, bucket: str, job_request: Make, hire: Make, finished: Make
) -> None:
    hire()
    request = job_request()
    job = finished(request)
    assert job["LabelingJobStatus"] == "Completed"
    assert job["LabelCounters"] == {
        "TotalLabeled": 6, "HumanLabeled": 6, "MachineLabeled": 0, "FailedNonRetryableError": 0, "Unlabeled": 0,
    }  # fmt: skip
    for member in (
        "InputConfig",
        "OutputConfig",
        "HumanTaskConfig",
        "RoleArn",
        "LabelAttributeName",
        "LabelCategoryConfigS3Uri",
    ):
        assert job[member] == request[member]
    name = request["LabelingJobName"]
    assert job["LabelingJobOutput"]["OutputDatasetS3Uri"] == f"s3://{bucket}/out/{name}/manifests/output/output.manifest"
    found = lines(s3, job["LabelingJobOutput"]["OutputDatasetS3Uri"])
    assert [line["id"] for line in found] == list(range(6))
    metadata = found[0]["animal-metadata"]
    assert metadata["class-name"] == ("cat", "dog", "owl")[found[0]["animal"]]
    assert (metadata["type"], metadata["human-annotated"]) == ("groundtruth/image-classification", "yes")
    assert metadata["job-name"] == f"labeling-job/{name}"
    assert datetime.fromisoformat(metadata["creation-date"])
    assert 0 < metadata["confidence"] <= 1


def test_each_worker_s_answer_is_left_where_ground_truth_leaves_it(
    s3: Any, bucket: str, job_request: Make, hire: Make, finished: Make
) -> None:
    hire()
    job = finished(job_request())
    found = keys(s3, bucket, f"out/{job['LabelingJobName']}/annotations/")
    responses = [key for key in found if key.startswith("worker-response/")]
    assert [re.fullmatch(r"worker-response/iteration-1/(\d)/[\d_:-]+\.json", key)[1] for key in responses] == list("012345")  # type: ignore[index]
    first = s3.get_object(Bucket=bucket, Key=f"out/{job['LabelingJobName']}/annotations/{responses[0]}")
    answers = json.loads(first["Body"].read())["answers"]
    assert {answer["workerId"] for answer in answers} == {"worker-0", "worker-1", "worker-2"}
    for answer in answers:
        assert answer["answerContent"]["crowd-image-classifier"]["label"] in ("cat", "dog", "owl")
        assert datetime.fromisoformat(answer["acceptanceTime"]) < datetime.fromisoformat(answer["submissionTime"])
    assert sum(key.startswith("consolidated-annotation/consolidation-request/iteration-1/") for key in found) == 1
    assert sum(key.startswith("consolidated-annotation/consolidation-response/iteration-1/") for key in found) == 1


def test_three_who_err_are_better_together_than_alone(s3: Any, job_request: Make, hire: Make, finished: Make) -> None:
    truth = hire(60, (0.75, 0.75, 0.75), seed=4)
    found = lines(s3, finished(job_request(60))["LabelingJobOutput"]["OutputDatasetS3Uri"])
    right = sum(line["animal"] == truth[line["source-ref"]] for line in found) / 60
    assert 0.76 < right < 1.0


def test_one_worker_per_object_gives_confidence_zero(s3: Any, job_request: Make, hire: Make, finished: Make) -> None:
    hire()
    job = finished(job_request(NumberOfHumanWorkersPerDataObject=1))
    assert {line["animal-metadata"]["confidence"] for line in lines(s3, job["LabelingJobOutput"]["OutputDatasetS3Uri"])} == {
        0.0
    }


def test_the_truth_may_be_an_object_in_s3(
    aws: FakeAWS, s3: Any, bucket: str, team: str, job_request: Make, finished: Make
) -> None:
    request = job_request(3)
    truth = {f"s3://{bucket}/images/{number:03}.png": 2 for number in range(3)}
    s3.put_object(Bucket=bucket, Key="truth.json", Body=json.dumps(truth).encode())
    aws.control.workers(team, [{"id": each, "accuracy": 1} for each in "abc"], truth_uri=f"s3://{bucket}/truth.json")
    found = lines(s3, finished(request)["LabelingJobOutput"]["OutputDatasetS3Uri"])
    assert [line["animal"] for line in found] == [2, 2, 2]


def test_counters_grow_while_people_work(aws: FakeAWS, sagemaker: Any, job_request: Make, hire: Make, eventually: Make) -> None:
    hire()
    aws.control.configure({"labelling.startSeconds": 0.2, "labelling.secondsPerObject": 0.2})
    request = job_request()
    sagemaker.create_labeling_job(**request)
    seen: list[tuple[str, int]] = []

    def completed() -> bool:
        job = sagemaker.describe_labeling_job(LabelingJobName=request["LabelingJobName"])
        state = job["LabelingJobStatus"], job["LabelCounters"]["TotalLabeled"]
        if state not in seen:
            seen.append(state)
        counters = job["LabelCounters"]
        assert state[0] == "Initializing" or counters["TotalLabeled"] + counters["Unlabeled"] == 6
        return bool(state[0] == "Completed")

    eventually(completed, "Completed")
    assert seen[0] == ("Initializing", 0)
    assert len({count for state, count in seen if state == "InProgress" and 0 < count < 6}) > 1
    assert seen == sorted(seen, key=lambda state: state[1])


def test_nobody_works_and_the_job_waits_until_somebody_does(
    sagemaker: Any, job_request: Make, hire: Make, eventually: Make
) -> None:
    hire(accuracies=(1.0, 1.0))  # two, and three are wanted per object
    request = job_request()
    name = request["LabelingJobName"]
    sagemaker.create_labeling_job(**request)

    def state() -> Any:
        return sagemaker.describe_labeling_job(LabelingJobName=name)

    eventually(lambda: state()["LabelCounters"]["Unlabeled"] == 6, "InProgress")
    assert state()["LabelingJobStatus"] == "InProgress"
    hire(accuracies=(1.0, 1.0, 1.0))
    eventually(lambda: state()["LabelingJobStatus"] == "Completed", "Completed")


def test_objects_that_fail_are_counted_and_told(
    aws: FakeAWS, s3: Any, bucket: str, job_request: Make, hire: Make, finished: Make
) -> None:
    hire(5)
    request = job_request(6)
    s3.delete_object(Bucket=bucket, Key="images/001.png")
    aws.control.configure({"labelling.failObjects": ["*/002.png"]})
    job = finished(request)
    counters = job["LabelCounters"]
    assert (job["LabelingJobStatus"], counters["TotalLabeled"], counters["FailedNonRetryableError"]) == ("Completed", 3, 3)
    found = lines(s3, job["LabelingJobOutput"]["OutputDatasetS3Uri"])
    reasons = {line["id"]: line["animal-metadata"]["failure-reason"] for line in found if "animal" not in line}
    assert "does not exist" in reasons[1]
    assert "could not be labeled" in reasons[2]
    assert "has no s3://" in reasons[5]


def test_a_later_job_asks_only_about_what_has_no_label(
    aws: FakeAWS, s3: Any, bucket: str, job_request: Make, hire: Make, finished: Make
) -> None:
    hire()
    aws.control.configure({"labelling.failObjects": ["*/004.png"]})
    first = finished(job_request())["LabelingJobOutput"]["OutputDatasetS3Uri"]
    before = lines(s3, first)
    aws.control.configure({"labelling.failObjects": []})
    key = first.split("/", 3)[3]
    job = finished(job_request(manifest=s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
    assert job["LabelCounters"]["TotalLabeled"] == 1
    after = lines(s3, job["LabelingJobOutput"]["OutputDatasetS3Uri"])
    assert "animal" in after[4]
    assert "failure-reason" not in after[4]["animal-metadata"]
    assert after[:4] + after[5:] == before[:4] + before[5:]


def test_a_stopped_job_keeps_what_was_labelled(
    aws: FakeAWS, sagemaker: Any, s3: Any, job_request: Make, hire: Make, eventually: Make, refused: Make
) -> None:
    hire()
    aws.control.configure({"labelling.secondsPerObject": 0.5, "labelling.stopSeconds": 0.2})
    request = job_request()
    name = {"LabelingJobName": request["LabelingJobName"]}
    sagemaker.create_labeling_job(**request)
    eventually(lambda: sagemaker.describe_labeling_job(**name)["LabelCounters"]["TotalLabeled"] > 0, "some are labelled")
    sagemaker.stop_labeling_job(**name)
    assert sagemaker.describe_labeling_job(**name)["LabelingJobStatus"] == "Stopping"
    eventually(lambda: sagemaker.describe_labeling_job(**name)["LabelingJobStatus"] == "Stopped", "Stopped")
    job = sagemaker.describe_labeling_job(**name)
    labelled = sum("animal" in line for line in lines(s3, job["LabelingJobOutput"]["OutputDatasetS3Uri"]))
    assert 0 < labelled == job["LabelCounters"]["TotalLabeled"] < 6
    assert refused(sagemaker.stop_labeling_job, **name)["Code"] == "ValidationException"


@pytest.mark.parametrize(
    ("conditions", "labelled"), [({"MaxHumanLabeledObjectCount": 2}, 2), ({"MaxPercentageOfInputDatasetLabeled": 50}, 3)]
)
def test_stopping_conditions_stop_it(job_request: Make, hire: Make, finished: Make, conditions: Any, labelled: int) -> None:
    hire()
    job = finished({**job_request(), "StoppingConditions": conditions})
    assert (job["LabelingJobStatus"], job["LabelCounters"]["TotalLabeled"]) == ("Stopped", labelled)


def test_names_are_unique_in_any_case(sagemaker: Any, job_request: Make, refused: Make) -> None:
    request = job_request()
    name = request["LabelingJobName"]
    arn = sagemaker.create_labeling_job(**request)["LabelingJobArn"]
    error = refused(sagemaker.create_labeling_job, **request | {"LabelingJobName": name.upper()})
    assert error["Code"] == "ResourceInUse"
    assert sagemaker.describe_labeling_job(LabelingJobName=name.upper())["LabelingJobArn"] == arn
    missing = {"LabelingJobName": f"{name}-not"}
    assert refused(sagemaker.describe_labeling_job, **missing)["Code"] == "ResourceNotFound"
    assert refused(sagemaker.stop_labeling_job, **missing)["Code"] == "ResourceNotFound"


@pytest.mark.parametrize(
    ("people", "changes", "message"),
    [
        ({"NumberOfHumanWorkersPerDataObject": 10}, {}, "WorkersPerDataObject' failed to satisfy constraint: Member must have "
         "value less than or equal to 9"),
        ({"TaskTimeLimitInSeconds": 28801}, {}, "at most 28800"),
        ({"TaskAvailabilityLifetimeInSeconds": 2592001}, {}, "from TaskTimeLimitInSeconds to 2592000"),
        ({"MaxConcurrentTaskCount": 5001}, {}, "less than or equal to 5000"),
        ({"TaskTitle": "x" * 129}, {}, "length less than or equal to 128"),
        ({"UiConfig": {}}, {}, "exactly one of UiTemplateS3Uri and HumanTaskUiArn"),
        ({"WorkteamArn": "arn:aws:sagemaker:us-east-1:394669845002:workteam/public-crowd/default"}, {}, "public workforce"),
        ({"WorkteamArn": "arn:aws:sagemaker:us-east-1:123456789012:workteam/private-crowd/nobody"}, {}, "nobody does not"),
        ({"WorkteamArn": "arn:aws:sagemaker:eu-west-1:123456789012:workteam/private-crowd/nobody"}, {}, "does not exist"),
        ({"PreHumanTaskLambdaArn": "arn:aws:lambda:us-east-1:266458841044:function:PRE-ImageMultiClass"}, {}, "not in region"),
        ({"PublicWorkforceTaskPrice": {}}, {}, "public workforce only"),
        ({}, {"LabelAttributeName": "animal-metadata"}, "must not end in -metadata"),
        ({}, {"LabelAttributeName": "animal-ref"}, "must not end in -metadata or, for this task type, -ref"),
        ({}, {"LabelAttributeName": "an_animal"}, "regular expression pattern"),
        ({}, {"LabelingJobName": "under_score"}, "regular expression pattern"),
        ({}, {"OutputConfig": {"S3OutputPath": "https://bucket/x"}}, "S3OutputPath must be an s3:// URI"),
        ({}, {"InputConfig": {"DataSource": {}}}, "needs an S3DataSource"),
    ],
)  # fmt: skip
def test_a_request_beyond_the_limits_is_refused(
    sagemaker: Any, job_request: Make, refused: Make, people: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    error = refused(sagemaker.create_labeling_job, **job_request(1, **people) | changes)
    assert error["Code"] == "ValidationException"
    assert message in error["Message"]


def test_what_the_fake_cannot_do_is_not_pretended(sagemaker: Any, job_request: Make, refused: Make) -> None:
    algorithm = "arn:aws:sagemaker:us-east-1:027400017018:labeling-job-algorithm-specification/image-classification"
    boxes = "arn:aws:lambda:us-east-1:432418664414:function:PRE-BoundingBox"
    for request in (
        job_request(1) | {"LabelingJobAlgorithmsConfig": {"LabelingJobAlgorithmSpecificationArn": algorithm}},
        job_request(1, PreHumanTaskLambdaArn=boxes),
    ):
        assert refused(sagemaker.create_labeling_job, **request)["Code"] == "NotImplemented"


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (b"", "has 0 lines"),
        (b'{"source-ref": "s3://b/k"}\nnot json\n', "line 2 of the manifest is not JSON: not json"),
        (b'{"source": "text"}\n', "line 1 of the manifest has no source-ref"),
        (b'{"source-ref": "/local/file"}\n', "line 1 of the manifest has no source-ref with an s3:// URI"),
        (b"[1]\n", "line 1 of the manifest has no source-ref"),
        (b"\xff\n", "not UTF-8"),
    ],
)
def test_a_broken_manifest_fails_the_job_with_its_line(job_request: Make, finished: Make, manifest: bytes, reason: str) -> None:
    job = finished(job_request(0, manifest=manifest))
    assert job["LabelingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: ")
    assert reason in job["FailureReason"]
    assert "LabelingJobOutput" not in job


@pytest.mark.parametrize(
    ("key", "reason"),
    [("input.manifest", "no such object"), ("labels.json", "no such object"), ("page.html", "no such object")],
)
def test_a_missing_input_fails_the_job(
    sagemaker: Any, s3: Any, bucket: str, job_request: Make, finished: Make, key: str, reason: str
) -> None:
    request = job_request(1)
    s3.delete_object(Bucket=bucket, Key=key)
    job = finished(request)
    assert job["LabelingJobStatus"] == "Failed"
    assert f"cannot read s3://{bucket}/{key}: {reason}" in job["FailureReason"]


def test_one_label_is_no_choice(s3: Any, bucket: str, job_request: Make, finished: Make) -> None:
    request = job_request(1)
    s3.put_object(Bucket=bucket, Key="labels.json", Body=b'{"labels": [{"label": "cat"}]}')
    assert "at least 2 different labels" in finished(request)["FailureReason"]


def test_a_job_can_fail_on_request(aws: FakeAWS, sagemaker: Any, job_request: Make, eventually: Make) -> None:
    request = job_request(1)
    sagemaker.create_labeling_job(**request)
    aws.control.fail_job(request["LabelingJobName"], "InternalServerError: try again")
    job = sagemaker.describe_labeling_job(LabelingJobName=request["LabelingJobName"])
    assert (job["LabelingJobStatus"], job["FailureReason"]) == ("Failed", "InternalServerError: try again")


def test_jobs_are_listed_by_name_and_status(sagemaker: Any, job_request: Make, hire: Make, finished: Make) -> None:
    hire()
    request = job_request()
    finished(request)
    word = request["LabelingJobName"].removeprefix("job-")
    (found,) = sagemaker.list_labeling_jobs(NameContains=word, StatusEquals="Completed")["LabelingJobSummaryList"]
    assert found["LabelingJobName"] == request["LabelingJobName"]
    assert found["LabelCounters"]["HumanLabeled"] == 6
    assert sagemaker.list_labeling_jobs(NameContains=word, StatusEquals="Failed")["LabelingJobSummaryList"] == []
    page = sagemaker.list_labeling_jobs(MaxResults=1, SortBy="CreationTime", SortOrder="Descending")
    assert page["LabelingJobSummaryList"][0]["LabelingJobName"] == request["LabelingJobName"]


def test_a_truth_that_cannot_be_read_fails_the_job(
    aws: FakeAWS, bucket: str, team: str, job_request: Make, finished: Make
) -> None:
    aws.control.workers(team, [{"id": each} for each in "abc"], truth_uri=f"s3://{bucket}/nothing.json")
    assert f"cannot read s3://{bucket}/nothing.json" in finished(job_request(1))["FailureReason"]


def test_an_output_bucket_that_is_missing_fails_the_job(job_request: Make, hire: Make, finished: Make) -> None:
    hire()
    output = {"OutputConfig": {"S3OutputPath": "s3://no-such-bucket-at-all/out"}}
    assert "s3://no-such-bucket-at-all/out does not exist" in finished(job_request(1) | output)["FailureReason"]
