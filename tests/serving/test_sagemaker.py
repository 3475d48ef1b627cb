"""SageMaker's two paths, against a running server."""

from __future__ import annotations

import io

import numpy as np
import pytest
from tests.serving.server import Server

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_ping_answers_when_the_model_is_ready(server: Server) -> None:
    assert server.get("/ping").status == 200


def test_json_is_the_v1_body(server: Server) -> None:
    body = {"instances": ROWS.tolist()}
    answer = server.post("/invocations", body, Content_Type="application/json; charset=utf-8")
    assert answer.status == 200, answer.body
    assert answer.json == server.post("/v1/models/m:predict", body).json


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_goes_in_and_comes_out(server: Server, order: str) -> None:
    body = npy(np.array(ROWS, order=order))
    answer = server.post("/invocations", body, Content_Type="application/x-npy")
    assert answer.headers["content-type"] == "application/x-npy"
    expected = server.post("/v1/models/m:predict", {"instances": ROWS.tolist()}).json["predictions"]
    np.testing.assert_allclose(np.load(io.BytesIO(answer.body)), expected, rtol=1e-6)


def test_accept_chooses_the_type_of_the_answer(server: Server) -> None:
    answer = server.post("/invocations", npy(ROWS), Content_Type="application/x-npy", Accept="application/json")
    assert len(answer.json["predictions"]) == 2
    assert server.post("/invocations", npy(ROWS), Content_Type="application/x-npy", Accept="text/csv").status == 406


def test_other_types_are_a_415_that_says_which_are_taken(server: Server) -> None:
    answer = server.post("/invocations", b"1,2,3,4", Content_Type="text/csv")
    assert answer.status == 415
    assert answer.error == "Content-Type: expected application/json or application/x-npy, found 'text/csv'"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no array", "the body: is no .npy"),
        (npy(ROWS.astype(np.float64)), "the body: expected dtype float32, found float64"),
        (npy(ROWS.astype(">f4")), "the body: expected dtype float32, found >f4"),
        (npy(np.array([object()], object)), "the body: expected dtype float32, found object"),
        (npy(ROWS[:, :3]), "the body: expected shape [-1, 4] of FP32, found [2, 3]"),
        (npy(ROWS)[:-4], "the body: shape [2, 4] of FP32 is 32 bytes, found 28"),
        (npy(ROWS).replace(b"(2, 4)", b"(9, 4)"), "the body: shape [9, 4] of FP32 is 144 bytes, found 32"),
    ],
)
def test_a_wrong_array_is_a_400(server: Server, body: bytes, message: str) -> None:
    answer = server.post("/invocations", body, Content_Type="application/x-npy")
    assert answer.status == 400
    assert message in answer.error
