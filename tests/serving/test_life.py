"""From the start to SIGTERM: live before ready, ready when loaded, and nothing in flight is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.serving.conftest import Start
from tests.serving.server import until

PREDICT = "/v1/models/m:predict"


def test_it_is_live_but_not_ready_while_the_model_is_loaded(slow: Path, start: Start) -> None:
    # A batch of 64 rows warms up as slowly as one, so there is time to ask.
    server = start(slow).listens()
    assert server.get("/v2/health/live").status == 200
    assert server.get("/v2/health/ready").status == 503
    assert server.get("/ping").status == 503
    assert server.get("/v1/models/m").json["ready"] is False
    assert server.get("/v2/models/m/ready").status == 503
    answer = server.post(PREDICT, {"instances": [[1, 2]]})
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert server.metric("penstock_ready") == 0
    server.ready()
    assert server.metric("penstock_ready") == 1
    assert server.get("/ping").status == 200


def test_sigterm_finishes_what_is_in_flight_and_what_waits(slow: Path, start: Start) -> None:
    server = start(slow).ready()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(server.post, PREDICT, {"instances": [[1, 2]]})
        until(lambda: server.metric("penstock_batch_requests_count") == 1, server.log)
        second = pool.submit(server.post, PREDICT, {"instances": [[3, 4]]})
        until(lambda: server.metric("penstock_queue_requests") == 1, server.log)
        server.terminate()
        assert first.result().json == {"predictions": [[3.0]]}
        assert second.result().json == {"predictions": [[7.0]]}
        assert second.result().headers["connection"] == "close"
    assert server.stop() == 0


def test_while_it_drains_it_is_not_ready_but_serves(iris: Path, start: Start) -> None:
    server = start(iris, PENSTOCK_DRAIN_SECONDS="3").ready()
    server.terminate()
    until(lambda: server.get("/v2/health/ready").status == 503, server.log)
    answer = server.post(PREDICT, {"instances": [[1, 2, 3, 4]]})
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert server.get("/v2/health/live").status == 200
    assert server.stop() == 0


def test_a_request_beyond_the_grace_period_does_not_hold_the_process(slow: Path, start: Start) -> None:
    server = start(slow, PENSTOCK_STOP_SECONDS="0.1", PENSTOCK_BATCH_MAX_ROWS="1").ready()
    with ThreadPoolExecutor(1) as pool:
        # A hundred inferences, far longer than the test waits.
        lost = pool.submit(server.post, PREDICT, {"instances": [[1, 2]] * 100})
        until(lambda: server.metric("penstock_batch_requests_count") == 1, server.log)
        server.terminate()
        assert server.stop(seconds=10) == 0
        assert lost.exception() is not None or lost.result().status >= 500


def test_sigterm_while_the_model_is_loaded_ends_it(slow: Path, start: Start) -> None:
    server = start(slow).listens()
    server.terminate()
    assert server.stop(seconds=10) == 0


def test_an_endless_inference_fails_the_liveness_check(slow: Path, start: Start) -> None:
    server = start(slow, PENSTOCK_STUCK_SECONDS="0.1", PENSTOCK_BATCH_MAX_ROWS="1").ready()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.post, PREDICT, {"instances": [[1, 2]] * 4})
        until(lambda: server.get("/v2/health/live").status == 503, server.log)
        assert asked.result().status == 200
    assert server.get("/v2/health/live").status == 200


def test_a_port_in_use_is_one_clear_line(iris: Path, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "address already in use" in start(iris, PENSTOCK_LISTEN_PORT=str(taken.getsockname()[1])).fails()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"MODEL_URI": ""}, "MODEL_URI: not set; expected s3://bucket/prefix, file:///path or a path"),
        ({"MODEL_NAME": "a/b"}, "MODEL_NAME: found 'a/b'; use letters"),
        ({"PENSTOCK_THREADS": "two"}, "PENSTOCK_THREADS: found 'two'; expected int"),
        ({"PENSTOCK_THREADS": "-1"}, "PENSTOCK_THREADS: found -1; use 0 or more"),
        ({"PENSTOCK_BATCH_MAX_ROWS": "0"}, "PENSTOCK_BATCH_MAX_ROWS: found 0; use 1 or more"),
        ({"PENSTOCK_REQUEST_TIMEOUT_SECONDS": "nan"}, "PENSTOCK_REQUEST_TIMEOUT_SECONDS: found nan; use more than 0"),
        ({"PENSTOCK_MODEL_MAX_MIB": "0"}, "PENSTOCK_MODEL_MAX_MIB: found 0; use more than 0"),
        ({"SAGEMAKER_BIND_TO_PORT": "x"}, "SAGEMAKER_BIND_TO_PORT: found 'x'; expected int"),
        ({"PENSTOCK_LOG_LEVEL": "loud"}, "PENSTOCK_LOG_LEVEL: found 'loud'; use debug"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(settings: dict[str, str], message: str) -> None:
    environment = {"PATH": os.environ["PATH"], "MODEL_URI": "/nowhere", **settings}
    command = [sys.executable, "-m", "penstock_serving"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"penstock-serving: {message}")
    assert ended.stderr.count("\n") == 1


def test_help_lists_every_setting() -> None:
    from dataclasses import fields

    from penstock_serving.settings import Settings, variable

    command = [sys.executable, "-m", "penstock_serving", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(variable(field.name) in text for field in fields(Settings))
