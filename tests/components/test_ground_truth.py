"""Labelling jobs against the fake AWS over HTTP: what is refused, what a retry finds, how each end is told."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.components.conftest import example, kfp_inputs, no_credentials, upload

from penstock_components import aws as clients
from penstock_components import manifest, s3
from penstock_components.errors import ComponentError
from penstock_components.labelling.consolidate_labels.consolidate import consolidate
from penstock_components.labelling.ground_truth_labelling import request
from penstock_components.labelling.ground_truth_labelling.component import ground_truth_labelling
from penstock_components.labelling.ground_truth_labelling.job import ENDED, label
from penstock_components.labelling.ground_truth_labelling.outcome import Outcome
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


@pytest.fixture(scope="module")
def team(fake_aws: FakeAWS) -> str:
    """The ARN of a private team; one for all tests, as an account may have 25."""
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


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


# --- what comes out ---------------------------------------------------------------------------------------------------------


def test_a_job_labels_every_object(aws: FakeAWS, wanted: Labelling, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "penstock_components")
    outcome = label(wanted)
    assert (outcome.total_objects, outcome.labelled_objects, outcome.human_labelled) == (12, 12, 12)
    assert (outcome.failed_objects, outcome.unlabelled_manifest_uri, outcome.labelled_fraction) == (0, "", 1.0)
    lines = manifest.read(outcome.output_manifest_uri)
    assert all(manifest.class_name(record, "animal") in CLASSES for record in lines)
    assert len(list(s3.objects(outcome.worker_responses_uri))) == 12
    assert "Completed: 12 labelled (12 by people, 0 by model), 0 failed, 0 left" in caplog.text
    assert started(aws) == [wanted.job_name]


def test_the_answers_can_be_consolidated(aws: FakeAWS, bucket: str, wanted: Labelling) -> None:
    lines = upload(bucket, 60)
    manifest.write(wanted.manifest_uri, lines)
    truth = {line["source-ref"]: place % 3 for place, line in enumerate(lines)}
    crew = [("ann", 0.9), ("bob", 0.9), ("cid", 0.9), ("dan", 0.4)]
    workers = [{"id": name, "accuracy": accuracy} for name, accuracy in crew]
    aws.control.workers(wanted.workteam_arn.rpartition("/")[2], workers, truth=truth, seed=4)
    outcome = label(changed(wanted, workers_per_object=4))
    result, _ = consolidate(
        wanted.manifest_uri, outcome.worker_responses_uri, s3.join(bucket, "out"), "animal", CLASSES, outcome.job_name
    )
    found = {record.source: record.fields["animal"] for record in manifest.read(result.manifest_uri)}
    assert sum(found[uri] == place for uri, place in truth.items()) >= 57
    accuracy = {name: worker["accuracy"] for name, worker in json.loads(s3.read(result.report_uri))["workers"].items()}
    assert len(accuracy) == 4
    assert min(accuracy, key=lambda name: accuracy[name]).endswith("dan")


def test_too_few_labels_fail_with_the_objects_and_a_manifest_of_the_rest(aws: FakeAWS, wanted: Labelling) -> None:
    aws.control.configure({"labelling": {"failObjects": ["*0003.png", "*0007.png"]}})
    with pytest.raises(ComponentError) as error:
        label(wanted)
    text = str(error.value)
    assert "gave labels for 10 of 12 objects (83.3%), wanted are 95.0%" in text
    assert "line 4 (" in text
    assert "0003.png)" in text
    assert "line 8 (" in text
    rest = s3.join(wanted.output_uri, wanted.job_name, "unlabelled.manifest")
    assert rest in text
    assert [record.source.rpartition("/")[2] for record in manifest.read(rest)] == ["0003.png", "0007.png"]


def test_enough_labels_pass_with_the_failed_objects_counted(aws: FakeAWS, wanted: Labelling) -> None:
    aws.control.configure({"labelling": {"failObjects": ["*0003.png"]}})
    outcome = label(changed(wanted, min_labelled_fraction=0.9))
    assert (outcome.labelled_objects, outcome.failed_objects) == (11, 1)
    assert outcome.labelled_fraction == pytest.approx(11 / 12)
    aws.control.configure(FAST)
    again = label(changed(wanted, manifest_uri=outcome.unlabelled_manifest_uri, job_name=f"{wanted.job_name}-rest"))
    assert (again.total_objects, again.labelled_objects) == (1, 1)


def test_objects_labelled_before_are_not_asked_again(wanted: Labelling, bucket: str) -> None:
    lines = [record.fields for record in manifest.read(wanted.manifest_uri)]
    lines[0] |= {"animal": 2, "animal-metadata": {"class-name": "eel"}}
    manifest.write(wanted.manifest_uri, lines)
    outcome = label(wanted)
    assert (outcome.labelled_objects, outcome.human_labelled) == (12, 11)
    assert manifest.read(outcome.output_manifest_uri)[0].fields == lines[0]


def test_a_job_that_ends_at_its_limit_is_judged_by_its_labels(wanted: Labelling) -> None:
    outcome = label(changed(wanted, max_human_labelled_objects=6, min_labelled_fraction=0.4))
    assert 6 <= outcome.labelled_objects < 12


# --- retries ----------------------------------------------------------------------------------------------------------------


def test_a_retry_goes_on_with_the_job_it_finds(aws: FakeAWS, wanted: Labelling) -> None:
    first = label(changed(wanted, job_name=""))
    assert label(changed(wanted, job_name="")) == first
    assert started(aws) == [first.job_name]


def test_a_job_made_while_the_answer_was_lost_is_found(aws: FakeAWS, wanted: Labelling) -> None:
    aws.control.fault("sagemaker", "CreateLabelingJob", "InternalFailure", status=500, after=True)
    assert label(wanted).labelled_objects == 12
    assert started(aws) == [wanted.job_name] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": "What is it?"}, r"HumanTaskConfig.TaskTitle is 'Which animal\?', wanted 'What is it\?'"),
        ({"label_categories": ["cat", "dog"]}, "the content of the manifest, the template or another input"),
    ],
)
def test_a_job_of_the_name_but_of_other_inputs_is_refused(wanted: Labelling, changes: Any, message: str) -> None:
    label(wanted)
    with pytest.raises(ComponentError, match=rf"(?s){wanted.job_name} exists and was made from other inputs.*{message}"):
        label(changed(wanted, **changes))


def test_a_job_of_a_manifest_that_has_changed_is_refused(wanted: Labelling, bucket: str) -> None:
    label(wanted)
    manifest.write(wanted.manifest_uri, upload(bucket, 13))
    with pytest.raises(ComponentError, match="the content of the manifest"):
        label(wanted)


def test_inputs_make_the_name_and_waiting_does_not(wanted: Labelling) -> None:
    free = changed(wanted, job_name="")

    def name(one: Labelling, content: bytes = b"m", page: bytes = b"t") -> str:
        return request.job_name(one, request.inputs_hash(one, content, page))

    assert name(free) == name(changed(free, deadline_hours=1.0, min_labelled_fraction=0.1, poll_seconds=9.0))
    others = [changed(free, attempt=2), changed(free, title="x"), changed(free, label_categories=CLASSES[::-1])]
    assert len({name(free), name(free, b"other"), name(free, page=b"other"), *map(name, others)}) == 6


# --- endings ----------------------------------------------------------------------------------------------------------------


def test_a_failed_job_is_told_with_awss_reason(aws: FakeAWS, wanted: Labelling) -> None:
    aws.control.configure(NEVER)

    def fail() -> None:
        until(lambda: started(aws) != [])
        aws.control.fail_job(wanted.job_name, "ClientError: the role cannot read the images")

    thread = threading.Thread(target=fail)
    thread.start()
    with pytest.raises(ComponentError, match=f"{wanted.job_name} failed: ClientError: the role cannot read the images"):
        label(wanted)
    thread.join()


def test_a_job_refused_by_aws_is_told_with_its_words(aws: FakeAWS, wanted: Labelling) -> None:
    aws.control.fault("sagemaker", "CreateLabelingJob", "ResourceLimitExceeded", "20 jobs run already")
    with pytest.raises(ComponentError, match="was refused: ResourceLimitExceeded: 20 jobs run already"):
        label(wanted)


def test_a_standstill_names_the_team_and_leaves_the_job(aws: FakeAWS, sagemaker: Any, wanted: Labelling) -> None:
    aws.control.configure(NEVER)
    with pytest.raises(ComponentError, match=f"no progress for .*check that work team {wanted.workteam_arn} has members"):
        label(changed(wanted, stall_hours=0.5 / 3600))
    assert sagemaker.describe_labeling_job(LabelingJobName=wanted.job_name)["LabelingJobStatus"] == "InProgress"


def test_credentials_that_are_gone_for_good_end_the_step_in_minutes_and_leave_the_job(
    aws: FakeAWS, sagemaker: Any, wanted: Labelling, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.control.configure(NEVER)
    monkeypatch.setattr(clients, "CREDENTIALS", clients.CREDENTIALS._replace(seconds=0.1))

    def lose() -> None:
        until(lambda: len(aws.control.calls("sagemaker", "DescribeLabelingJob")) > 3)
        no_credentials(monkeypatch)

    thread = threading.Thread(target=lose)
    thread.start()
    with pytest.raises(ComponentError, match=r"no answer for .*retrieving credentials.*trust policy.*waits for it again"):
        label(wanted)
    thread.join()
    assert sagemaker.describe_labeling_job(LabelingJobName=wanted.job_name)["LabelingJobStatus"] == "InProgress"


def test_after_a_deadline_a_new_run_waits_for_the_same_job(aws: FakeAWS, wanted: Labelling) -> None:
    aws.control.configure({"labelling": {"startSeconds": 2}})
    with pytest.raises(ComponentError, match=r"not done after .*a new run of this step waits for it again"):
        label(changed(wanted, deadline_hours=0.3 / 3600))
    begun = time.monotonic()
    with pytest.raises(ComponentError, match="if deadline_hours is above the job's age"):
        label(changed(wanted, deadline_hours=0.3 / 3600, poll_seconds=60.0))
    assert time.monotonic() - begun < 10, "the deadline counts from the job's creation, not from this try's begin"
    assert label(wanted).labelled_objects == 12
    assert started(aws) == [wanted.job_name]


def test_a_stopped_job_says_how_to_label_the_rest(aws: FakeAWS, sagemaker: Any, wanted: Labelling) -> None:
    aws.control.configure({"labelling": {"secondsPerObject": 0.3}})

    def stop() -> None:
        until(lambda: started(aws) != [])
        until(lambda: counters(sagemaker, wanted)["TotalLabeled"] >= 2)
        sagemaker.stop_labeling_job(LabelingJobName=wanted.job_name)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(ComponentError, match=r"was stopped, \d+ of 12 objects have a label; .*attempt=2") as error:
        label(wanted)
    thread.join()
    rest = str(error.value).partition("manifest_uri=")[2].partition(" ")[0]
    aws.control.configure(FAST)
    assert label(changed(wanted, manifest_uri=rest, attempt=2, job_name="")).labelled_objects == 12


def counters(sagemaker: Any, wanted: Labelling) -> dict[str, int]:
    found: dict[str, int] = sagemaker.describe_labeling_job(LabelingJobName=wanted.job_name)["LabelCounters"]
    return found


@pytest.mark.parametrize(("stop_on_cancel", "statuses"), [(True, {"Stopping", "Stopped"}), (False, {"InProgress"})])
def test_sigterm_stops_the_job_unless_it_should_go_on(
    aws: FakeAWS, sagemaker: Any, wanted: Labelling, stop_on_cancel: bool, statuses: set[str]
) -> None:
    aws.control.configure(NEVER)
    program = f"""
from penstock_components.labelling.ground_truth_labelling.job import Labelling, label
label(Labelling(**{dataclasses.asdict(changed(wanted, stop_on_cancel=stop_on_cancel))!r}))
"""
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        until(lambda: started(aws) != [])
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    assert sagemaker.describe_labeling_job(LabelingJobName=wanted.job_name)["LabelingJobStatus"] in statuses


# --- what is refused before a job is made -----------------------------------------------------------------------------------


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


def test_words_for_workers_cannot_break_the_page(wanted: Labelling) -> None:
    page = request.template(changed(wanted, title='"><script>', instructions="{{ secret }}\nsecond")).decode()
    assert '"><script>' not in page
    assert page.count("{{") == 2
    assert "&#123;&#123; secret }}<br>second" in page


def test_missing_cors_is_a_warning(wanted: Labelling, caplog: pytest.LogCaptureFixture) -> None:
    label(wanted)
    assert "has no CORS rule" in caplog.text


def test_endings_are_those_of_the_api(sagemaker: Any) -> None:
    shape = sagemaker.meta.service_model.shape_for("LabelingJobStatus")
    assert set(shape.enum) - ENDED == {"Initializing", "InProgress", "Stopping"}


# --- the component ----------------------------------------------------------------------------------------------------------


def test_every_input_and_output_of_the_component_is_used() -> None:
    kfp_inputs(ground_truth_labelling, Labelling)
    declared = ground_truth_labelling.component_spec.outputs
    assert [name for name in declared if name != "metrics"] == list(Outcome._fields)


def test_the_readmes_example_runs(wanted: Labelling, bucket: str, kfp_local: Any) -> None:
    outputs = example("labelling/ground_truth_labelling")(
        bucket=bucket, role_arn=ROLE, workteam_arn=wanted.workteam_arn
    ).outputs
    assert outputs["labelled_fraction"] == 1.0
    assert len(manifest.read(outputs["manifest_uri"])) == 12
    (written,) = kfp_local.glob("*/ground-truth-labelling/executor_output.json")
    metrics = json.loads(written.read_text())["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert metrics["human_labelled"] == 12
