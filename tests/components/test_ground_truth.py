"""Labelling jobs against the fake AWS over HTTP: what comes out, what a retry finds, how each end is told."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.components.conftest import example, kfp_inputs, no_credentials, upload
from tests.components.labelling_jobs import CLASSES, FAST, NEVER, ROLE, changed, sagemaker, started, team, wanted

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

__all__ = ["sagemaker", "team", "wanted"]


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


def test_endings_are_those_of_the_api(sagemaker: Any) -> None:
    shape = sagemaker.meta.service_model.shape_for("LabelingJobStatus")
    assert set(shape.enum) - ENDED == {"Initializing", "InProgress", "Stopping"}


# --- the page and the component -----------------------------------------------------------------------------------------------


def test_words_for_workers_cannot_break_the_page(wanted: Labelling) -> None:
    page = request.template(changed(wanted, title='"><script>', instructions="{{ secret }}\nsecond")).decode()
    assert '"><script>' not in page
    assert page.count("{{") == 2
    assert "&#123;&#123; secret }}<br>second" in page


def test_missing_cors_is_a_warning(wanted: Labelling, caplog: pytest.LogCaptureFixture) -> None:
    label(wanted)
    assert "has no CORS rule" in caplog.text


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
