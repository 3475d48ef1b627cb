"""What `make demo-pipeline` starts from and how it judges; the whole of it runs in tests/e2e."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock_components import manifest, s3
from penstock_components.labelling.ground_truth_labelling import job, request
from penstock_local.aws import FakeAWS
from penstock_local.errors import LocalError
from penstock_local.steps import Steps
from penstock_pipelines.demo import __main__ as demo
from penstock_pipelines.demo import digits, road


@pytest.fixture
def ready(aws: FakeAWS) -> digits.Ready:
    return digits.prepare(aws.control)


def test_no_worker_sees_a_held_out_digit_and_a_second_time_uploads_nothing(ready: digits.Ready, aws: FakeAWS) -> None:
    records = manifest.read(ready.manifest_uri)
    shown = {record.fields["source-ref"].rpartition("/")[2].removesuffix(".png") for record in records}
    assert (len(shown), len(ready.held.truth)) == (1437, 360)
    assert not shown & ready.held.truth.keys()
    aws.control.forget_calls()
    again = digits.prepare(aws.control)
    assert again.truth == ready.truth
    assert again.held.truth == ready.held.truth
    assert aws.control.calls("s3", "PutObject") == []
    assert aws.control.calls("sagemaker", "CreateWorkteam") == []


def test_labels_of_noisy_people_are_better_by_dawid_and_skene_than_by_majority(ready: digits.Ready, aws: FakeAWS) -> None:
    aws.control.configure({"labelling": {"secondsPerObject": 0.001, "startSeconds": 0.05}})
    wanted = request.Labelling(
        manifest_uri=ready.manifest_uri,
        output_uri=f"{digits.ROOT}/labels",
        label_attribute="digit",
        label_categories=digits.CLASSES,
        role_arn="arn:aws:iam::123456789012:role/labelling",
        workteam_arn=ready.workteam_arn,
        title="t",
        description="d",
        poll_seconds=0.1,
    )
    labelled = job.label(wanted)
    found = digits.labels(ready, labelled.worker_responses_uri)
    assert 0.8 < found.majority < found.dawid_skene < 1


def test_a_run_is_repeated_by_a_name_that_exists_or_goes_on_or_is_new(
    ready: digits.Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    with pytest.raises(LocalError, match=r"RUN is 'first', and there is no such run; there are: none"):
        demo.choose("first")
    for name in ("second", "first"):
        s3.write(f"{demo.RUNS}/{name}/run.json", b"{}")
        s3.write(f"{demo.RUNS}/{name}/dataset/run.json", b"{}")
    with pytest.raises(LocalError, match=r"RUN is 'dataset', and there is no such run; there are: first, second\."):
        demo.choose("dataset")
    assert demo.choose("first") == "first"
    assert re.fullmatch(r"digits-\d{4}-\d{6}", demo.choose(""))
    (tmp_path / "second").mkdir()
    assert demo.choose("") == "second"
    (tmp_path / "second" / "done").touch()
    assert re.fullmatch(r"digits-\d{4}-\d{6}", demo.choose(""))


def test_no_cluster_is_made_to_look_for_a_run_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path))
    monkeypatch.setattr(demo.demo, "bring_up", lambda *_, **__: pytest.fail("a cluster is made"))
    with pytest.raises(LocalError, match="RUN is 'first', and there is no such run; there are: none"):
        demo.run("first")


def test_a_pipeline_that_fails_is_told_by_the_step_that_did(parameters: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        road.follow({**parameters, "epochs": 0}, tmp_path, Steps())
    told = [line.strip() for line in str(caught.value).splitlines() if line.strip()]
    assert told[0] == "the pipeline failed at check-parameters:"
    here = told.index("nothing was started, 1 parameter is wrong:")
    assert told[here + 1].startswith("epochs is 0")
    assert "finished with status FAILURE" in told[here + 2]
    assert not any("Traceback" in line or "clean-up" in line for line in told)


def test_the_judge_counts_right_answers_and_refuses_an_incomplete_list(ready: digits.Ready) -> None:
    def told(keys: list[str], wrong: int) -> str:
        lines = []
        for place, key in enumerate(keys):
            guess = (ready.held.truth[key] + (place < wrong)) % 10
            lines.append(json.dumps({"key": key, "label": 0, "probabilities": np.eye(10)[guess].tolist()}))
        s3.write(f"{digits.ROOT}/predictions.jsonl", "\n".join(lines).encode())
        return f"{digits.ROOT}/predictions.jsonl"

    keys = list(ready.held.truth)
    assert digits.accuracy(told(keys, wrong=36), ready.held) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="tells of 359 samples; held out are 360"):
        digits.accuracy(told(keys[1:], wrong=0), ready.held)
