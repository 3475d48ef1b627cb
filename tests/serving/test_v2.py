"""KServe's v2 protocol, JSON and binary, against running servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.serving import models
from tests.serving.conftest import Start
from tests.serving.server import Server

from penstock_serving.tensors import DATATYPES

INFER = "/v2/models/m/infer"
ROW = [5.1, 3.5, 1.4, 0.2]
LENGTH = "Inference-Header-Content-Length"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW, **changes}


def binary(header: dict[str, Any], *data: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(header).encode()
    return b"".join([text, *data]), {"Inference_Header_Content_Length": str(len(text))}


def test_health_and_metadata(server: Server) -> None:
    assert server.get("/v2").json == {"name": "penstock", "version": "0.1.0", "extensions": ["binary_tensor_data"]}
    assert server.get("/v2/health/live").json == {"live": True}
    assert server.get("/v2/health/ready").json == {"ready": True}
    assert server.get("/v2/models/m/ready").json == {"name": "m", "ready": True}
    found = server.get("/v2/models/m").json
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert found["classes"] == models.CLASSES


def test_flat_and_nested_data_are_the_same(server: Server) -> None:
    flat = server.post(INFER, {"inputs": [tensor(shape=[2, 4], data=[*ROW, 1, 2, 3, 4])]})
    nested = server.post(INFER, {"inputs": [tensor(shape=[2, 4], data=[ROW, [1, 2, 3, 4]])]})
    assert flat.status == 200, flat.body
    assert flat.json == nested.json
    output = flat.json["outputs"][0]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [2, 3])
    with torch.no_grad():
        expected = models.Iris().eval()(torch.tensor([ROW, [1, 2, 3, 4]]))
    torch.testing.assert_close(torch.tensor(output["data"]).reshape(2, 3), expected)


def test_the_id_comes_back(server: Server) -> None:
    assert server.post(INFER, {"id": "a-1", "inputs": [tensor()]}).json["id"] == "a-1"
    assert "id" not in server.post(INFER, {"inputs": [tensor()]}).json


def test_binary_tensors_go_in_and_come_out(server: Server) -> None:
    rows = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    sized = {"name": "x", "shape": [5, 4], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
    body, headers = binary({"id": "b", "inputs": [sized], "outputs": wanted}, rows.tobytes())
    answer = server.post(INFER, body, **headers)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH.lower()])
    header = json.loads(answer.body[:length])
    assert header["id"] == "b"
    assert header["outputs"][0]["parameters"] == {"binary_data_size": 5 * 3 * 4}
    found = np.frombuffer(answer.body[length:], np.float32).reshape(header["outputs"][0]["shape"])
    as_json = server.post(INFER, {"inputs": [tensor(shape=[5, 4], data=rows.tolist())]}).json["outputs"][0]["data"]
    np.testing.assert_allclose(found.ravel(), as_json, rtol=1e-6)


def test_binary_output_may_be_asked_for_as_a_whole_and_refused_for_one(server: Server) -> None:
    whole = {"parameters": {"binary_data_output": True}, "inputs": [tensor()]}
    assert LENGTH.lower() in server.post(INFER, whole).headers
    but = {**whole, "outputs": [{"name": "logits", "parameters": {"binary_data": False}}]}
    assert len(server.post(INFER, but).json["outputs"][0]["data"]) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, '"inputs": expected a list'),
        ({"inputs": []}, "inputs: expected the one input 'x', found []"),
        ({"inputs": [tensor(name="y")]}, "inputs: expected the one input 'x', found ['y']"),
        ({"inputs": [tensor(), tensor()]}, "inputs: expected the one input 'x', found ['x', 'x']"),
        ({"inputs": [tensor(datatype="FP64")]}, "input 'x': expected datatype FP32 of shape [-1, 4], found 'FP64'"),
        ({"inputs": [tensor(datatype="BYTES")]}, "found 'BYTES'; the numeric datatypes are BOOL, UINT8"),
        ({"inputs": [tensor(shape=[1, 5])]}, "input 'x': expected shape [-1, 4] of FP32, found [1, 5]"),
        ({"inputs": [tensor(shape=[4])]}, "input 'x': expected shape [-1, 4] of FP32, found [4]"),
        ({"inputs": [tensor(shape=[0, 4], data=[])]}, "input 'x': expected at least one row, found shape [0, 4]"),
        ({"inputs": [tensor(shape=[-1, 4])]}, "input 'x': expected at least one row, found shape [-1, 4]"),
        ({"inputs": [tensor(shape=[1, True])]}, "shape: expected a list of integers like [-1, 4], found [1, True]"),
        ({"inputs": [tensor(data=[1, 2, 3])]}, "data has the shape [3]; expected [1, 4], or 4 numbers in one list"),
        ({"inputs": [tensor(data=[[1, 2], [3, 4]])]}, "data has the shape [2, 2]; expected [1, 4]"),
        ({"inputs": [tensor(data="1234")]}, "input 'x': data: expected a list of FP32 for shape [1, 4], found str"),
        ({"inputs": [tensor(data=[1, 2, 3, "4"])]}, "input 'x': data: expected FP32, found text"),
        ({"inputs": [tensor()], "outputs": [{"name": "z"}]}, "the model's only output is 'logits', found 'z'"),
        ({"inputs": [tensor()], "id": 7}, "id: expected text, found 7"),
    ],
)
def test_a_wrong_request_is_a_400_that_says_what_was_found(server: Server, body: object, message: str) -> None:
    answer = server.post(INFER, body)
    assert answer.status == 400
    assert message in answer.error


@pytest.mark.parametrize(
    ("size", "data", "length", "message"),
    [
        (16, b"\0" * 12, None, "binary_data_size is 16, but 12 bytes follow the JSON"),
        (12, b"\0" * 12, None, "shape [1, 4] of FP32 is 16 bytes, found 12"),
        (16, b"\0" * 16, "9999", "found '9999'; expected the length of the JSON, at most the body's"),
        (16, b"\0" * 16, "-1", "found '-1'"),
        (16, b"\0" * 16, "3", "the inference header: is not JSON"),
        (None, b"\0" * 16, None, "16 bytes follow the JSON, but the input has no binary_data_size"),
    ],
)
def test_wrong_binary_lengths_are_told(server: Server, size: int | None, data: bytes, length: str | None, message: str) -> None:
    given = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
    if size is not None:
        given["parameters"] = {"binary_data_size": size}
    body, headers = binary({"inputs": [given]}, data)
    answer = server.post(INFER, body, **(headers if length is None else {"Inference_Header_Content_Length": length}))
    assert answer.status == 400
    assert message in answer.error


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_numeric_datatype_goes_in_as_json_and_as_bytes(datatype: str, tmp_path: Path) -> None:
    """In this process, to the model itself: a server for each would only be slower."""
    from penstock_serving import model, v2

    dtype = {"BF16": "bfloat16"}.get(datatype, DATATYPES[datatype].name)
    path = models.save(tmp_path / "model.pt2", models.Sum(), [3], dtype)
    loaded = model.load(str(path), max_bytes=1 << 20, warm_up_rows=2, threads=1)
    values: list[Any] = [True, False, True] if datatype == "BOOL" else [1, 2, 100]
    given = {"name": "x", "shape": [1, 3], "datatype": datatype}
    as_json = v2.read(json.dumps({"inputs": [{**given, "data": values}]}).encode(), None, loaded.input, loaded.output)
    raw = torch.tensor([values], dtype=getattr(torch, dtype)).view(torch.uint8).numpy().tobytes()
    body, headers = binary({"inputs": [{**given, "parameters": {"binary_data_size": len(raw)}}]}, raw)
    as_bytes = v2.read(body, *headers.values(), loaded.input, loaded.output)
    assert loaded.run(as_json.rows).tolist() == loaded.run(as_bytes.rows).tolist() == [[float(sum(values))]]


@pytest.mark.parametrize(
    ("datatype", "values", "message"),
    [
        ("UINT8", [256], "256 does not fit UINT8"),
        ("UINT64", [-1], "-1 does not fit UINT64"),
        ("INT8", [-129], "-129 does not fit INT8"),
        ("INT32", [1.5], "expected INT32, found numbers"),
        ("BOOL", [1], "expected BOOL, found integers"),
        ("FP16", [70000.0], "70000 does not fit FP16"),
    ],
)
def test_a_number_that_does_not_fit_is_refused(datatype: str, values: list[Any], message: str) -> None:
    from penstock_serving.errors import RequestError
    from penstock_serving.tensors import Signature, from_json

    with pytest.raises(RequestError, match=message):
        from_json("data", values, Signature("x", datatype, (1,)))


def test_integers_beyond_two_to_the_63_keep_every_digit() -> None:
    from penstock_serving.tensors import Signature, from_json

    values = [1, 2**64 - 1, 2**63 + 1]
    assert from_json("data", values, Signature("x", "UINT64", (3,))).tolist() == values


def test_an_output_that_json_cannot_hold_is_an_error_but_goes_out_as_bytes(start: Start, tmp_path: Path) -> None:
    path = models.save(tmp_path / "model.pt2", models.Infinite(), [1])
    server = start(path).ready()
    given = {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, 0]}
    answer = server.post(INFER, {"inputs": [given]})
    assert answer.status == 500
    assert "output for row 1 is not finite" in answer.error
    answer = server.post(INFER, {"inputs": [given], "parameters": {"binary_data_output": True}})
    assert np.frombuffer(answer.body[int(answer.headers[LENGTH.lower()]) :], np.float32).tolist() == [1.0, np.inf]
