"""Which model in S3 is the training's own and whole; files appear in the fake AWS as FSx exports them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.components.conftest import CALL
from tests.components.training_jobs import export

from penstock_components import s3
from penstock_components.errors import ComponentError
from penstock_components.training.train import exported
from penstock_local.aws import FakeAWS


def test_the_model_of_an_earlier_training_is_not_taken(bucket: str) -> None:
    export(f"{bucket}/model")
    with pytest.raises(ComponentError, match="is older than the job"):
        exported.wait(f"{bucket}/model", datetime.now(UTC) + timedelta(days=1), 0.1)


def test_a_model_that_an_earlier_attempt_left_is_not_taken(bucket: str) -> None:
    uri = f"{bucket}/model"
    export(uri)
    assert exported.look(uri, attempt=2).model is not None  # it does not tell
    s3.write(f"{uri}/model.json", json.dumps({"model": "model.pt2", "bytes": 1000, "attempt": 1}).encode())
    assert exported.look(uri, attempt=2).words == f"{uri}/model.json is of attempt 1, and attempt 2 is the one that succeeded"
    assert exported.look(uri, attempt=1).model is not None


def test_an_outage_of_s3_does_not_end_the_wait_for_a_model(bucket: str, aws: FakeAWS, no_backoff: None) -> None:
    uri, since = f"{bucket}/model", datetime.now(UTC)
    export(uri)
    aws.control.fault("s3", "HeadObject", "ServiceUnavailable", status=503, times=CALL)
    assert exported.wait(uri, since, 30.0, every=0.1).uri == uri


def test_a_model_that_is_not_whole_yet_is_waited_for(bucket: str) -> None:
    uri, since = f"{bucket}/model", datetime.now(UTC)
    assert exported.look(uri, since) == exported.Looked(f"{uri}/model.json is not there yet")
    s3.write(f"{uri}/model.json", b'{"model": "model.pt2"')
    assert "no description of a model" in exported.look(uri, since).words
    s3.write(f"{uri}/model.json", json.dumps({"model": "model.pt2", "bytes": 5}).encode())
    assert exported.look(uri, since).words == f"{uri}/model.pt2 is not there yet, expected 5 bytes"
    s3.write(f"{uri}/model.pt2", b"123")
    assert exported.look(uri, since).words == f"{uri}/model.pt2 is 3 bytes, expected 5 bytes"
    s3.write(f"{uri}/model.pt2", b"12345")
    found = exported.look(uri, since).model
    assert found is not None
    assert found.bytes == 5
