"""KServe's v1 protocol, against a running server."""

from __future__ import annotations

import pytest
import torch
from tests.serving import models
from tests.serving.server import Server

PREDICT = "/v1/models/m:predict"
ROW = [5.1, 3.5, 1.4, 0.2]


def test_the_model_is_listed_with_its_classes(server: Server) -> None:
    assert server.get("/v1/models").json == {"models": ["m"]}
    assert server.get("/v1/models/m").json == {"name": "m", "ready": True, "classes": models.CLASSES}


def test_predictions_are_the_models_logits_row_by_row(server: Server) -> None:
    rows = [ROW, [6.7, 3.0, 5.2, 2.3], [0, 0, 0, 0]]
    answer = server.post(PREDICT, {"instances": rows})
    assert answer.status == 200, answer.body
    with torch.no_grad():
        expected = models.Iris().eval()(torch.tensor(rows))
    torch.testing.assert_close(torch.tensor(answer.json["predictions"]), expected)


def test_more_rows_than_a_batch_are_all_answered_in_order(server: Server) -> None:
    rows = [[number / 100, 0, 0, 0] for number in range(150)]
    found = torch.tensor(server.post(PREDICT, {"instances": rows}).json["predictions"])
    with torch.no_grad():
        torch.testing.assert_close(found, models.Iris().eval()(torch.tensor(rows)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body: is not JSON"),
        (b"[1]", "the body: expected a JSON object, found a list"),
        (b'{"instances": [[NaN, 1, 1, 1]]}', "the body: is not JSON"),
        ({"inputs": [ROW]}, '"instances" is missing; expected {"instances": [row, ...]}, found the fields [\'inputs\']'),
        ({"instances": 5}, "instances: expected a list of rows of shape [4], found a number"),
        ({"instances": []}, "instances: expected shape [-1, 4] of FP32, found [0]"),
        ({"instances": ROW}, "instances[0], input 'x': expected shape [4] of FP32, found []"),
        ({"instances": [ROW, ROW[:3]]}, "instances[1], input 'x': expected shape [4] of FP32, found [3]"),
        ({"instances": [[ROW]]}, "instances[0], input 'x': expected shape [4] of FP32, found [1, 4]"),
        ({"instances": [ROW, [1, 2, 3, "4"]]}, "instances[1], input 'x': expected FP32, found text"),
        ({"instances": [ROW, [1, 2, 3, None]]}, "instances[1], input 'x': expected FP32, found null"),
        ({"instances": [[True, False, True, False]]}, "instances[0], input 'x': expected FP32, found booleans"),
        ({"instances": [ROW, [1, [2], 3, 4]]}, "instances[1], input 'x': the lists in it differ in length"),
        ({"instances": [{"x": ROW}]}, "instances[0], input 'x': expected FP32, found null, objects"),
        ({"instances": [[1, 2, 3, 1e39]]}, "instances[0], input 'x': 1e+39 does not fit FP32"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_row_and_what_was_found(server: Server, body: object, message: str) -> None:
    answer = server.post(PREDICT, body)
    assert answer.status == 400
    assert message in answer.error


def test_an_unknown_model_is_a_404_that_names_the_one_served(server: Server) -> None:
    answer = server.post("/v1/models/other:predict", {"instances": [ROW]})
    assert answer.status == 404
    assert "the model served here is 'm'" in answer.error


def test_a_wrong_method_is_a_405(server: Server) -> None:
    assert server.get(PREDICT).status == 405


def test_a_body_over_the_limit_is_a_413(server: Server) -> None:
    answer = server.post(PREDICT, b'{"instances": [' + b" " * (1 << 20) + b"]}")
    assert answer.status == 413
    assert "larger than 1 MiB" in answer.error


def test_requests_are_counted_by_path_and_status(server: Server) -> None:
    bad, other = (
        f'penstock_requests_total{{code="{code}",endpoint="{path}"}}' for code, path in [(400, PREDICT), (404, "other")]
    )
    before = server.metric(bad), server.metric(other)
    server.post(PREDICT, b"{")
    server.get("/a/path/of/a/stranger")
    assert (server.metric(bad), server.metric(other)) == (before[0] + 1, before[1] + 1)
    assert "stranger" not in server.get("/metrics").body.decode()
    assert server.metric(f'penstock_request_seconds_count{{endpoint="{PREDICT}"}}') > 0
