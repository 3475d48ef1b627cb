"""KServe's v2 protocol (Open Inference Protocol, REST) with the binary tensor data extension.

Binary: the header Inference-Header-Content-Length gives the length of the JSON; the tensors' bytes follow it in order, each
as long as its parameter binary_data_size says. It spares both sides the text of every number. Sources: the KServe project's
open-inference-protocol, and Triton's "Binary Tensor Data Extension", whose header and parameter names are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from penstock_serving import __version__
from penstock_serving.errors import bad
from penstock_serving.model import Model
from penstock_serving.tensors import DATATYPES, Array, Signature, check_shape, dump, from_bytes, from_json, parse

LENGTH_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Request:
    rows: Array
    id: str | None
    binary: bool
    """Whether the output is asked for as bytes."""


def read(body: bytes, json_length: str | None, expected: Signature, output: Signature) -> Request:
    """Read a request; `json_length` is the header above.

    Raises:
        RequestError: it does not fit the protocol or the model; the message says what was expected and found.
    """
    length = len(body) if json_length is None else _length(json_length, len(body))
    request = parse("the body" if json_length is None else "the inference header", memoryview(body)[:length])
    name = request.get("id")
    if name is not None and not isinstance(name, str):
        raise bad(f"id: expected text, found {name!r}")
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        raise bad('"inputs": expected a list of {"name", "shape", "datatype", "data"}')
    names = [each.get("name") for each in inputs]
    if names != [expected.name]:
        raise bad(f"inputs: expected the one input {expected.name!r}, found {names}")
    rows = _rows(inputs[0], memoryview(body)[length:], expected)
    return Request(rows, name, _wants_binary(request, output))


def answer(name: str, request: Request, rows: Array, output: Signature) -> tuple[bytes, int | None]:
    """The body of the answer and, where it is binary, the length of the JSON it begins with."""
    tensor: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": rows.shape}
    found: dict[str, Any] = {"model_name": name, "outputs": [tensor]}
    if request.id is not None:
        found["id"] = request.id
    if not request.binary:
        tensor["data"] = rows.reshape(-1)
        return dump(found, rows), None
    data = rows.tobytes()
    tensor["parameters"] = {"binary_data_size": len(data)}
    header = orjson.dumps(found)
    return header + data, len(header)


def metadata(name: str, model: Model) -> dict[str, Any]:
    """What GET /v2/models/NAME tells; `classes` is ours, the order of the logits."""
    tensors = {"inputs": [_tensor(model.input)], "outputs": [_tensor(model.output)]}
    return {"name": name, "versions": [], "platform": "pytorch_export", **tensors, "classes": list(model.classes)}


def server_metadata() -> dict[str, Any]:
    """What GET /v2 tells."""
    return {"name": "penstock", "version": __version__, "extensions": ["binary_tensor_data"]}


def _tensor(signature: Signature) -> dict[str, Any]:
    return {"name": signature.name, "datatype": signature.datatype, "shape": signature.shape}


def _rows(tensor: dict[str, Any], binary: memoryview, expected: Signature) -> Array:
    where = f"input {expected.name!r}"
    if (datatype := tensor.get("datatype")) != expected.datatype:
        known = "" if datatype in DATATYPES else f"; the numeric datatypes are {', '.join(DATATYPES)}"
        raise bad(f"{where}: expected datatype {expected.datatype} of shape {expected.shape}, found {datatype!r}{known}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise bad(f"{where}: shape: expected a list of integers like {expected.shape}, found {shape!r}")
    check_shape(where, tuple(shape), expected)
    parameters = _parameters(where, tensor)
    if (size := parameters.get("binary_data_size")) is not None:
        if size != len(binary):
            raise bad(f"{where}: binary_data_size is {size!r}, but {len(binary)} bytes follow the JSON")
        return from_bytes(where, binary, tuple(shape), expected)
    if len(binary):
        raise bad(f"{where}: {len(binary)} bytes follow the JSON, but the input has no binary_data_size")
    if not isinstance(data := tensor.get("data"), list):
        raise bad(f"{where}: data: expected a list of {expected.datatype} for shape {shape}, found {type(data).__name__}")
    found = from_json(f"{where}: data", data, expected)
    # Flat, or nested as the shape is.
    if found.shape != tuple(shape) and (found.ndim != 1 or found.size != _items(shape)):
        raise bad(f"{where}: data has the shape {list(found.shape)}; expected {shape}, or {_items(shape)} numbers in one list")
    return found.reshape(shape)


def _items(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _length(text: str, body: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > body:
        raise bad(f"{LENGTH_HEADER}: found {text!r}; expected the length of the JSON, at most the body's {body} bytes")
    return int(text)


def _parameters(where: str, tensor: dict[str, Any]) -> dict[str, Any]:
    found = tensor.get("parameters") or {}
    if not isinstance(found, dict):
        raise bad(f"{where}: parameters: expected an object, found {found!r}")
    return found


def _wants_binary(request: dict[str, Any], output: Signature) -> bool:
    outputs = request.get("outputs") or []
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise bad('"outputs": expected a list of {"name"}')
    for each in outputs:
        if each.get("name") != output.name:
            raise bad(f"outputs: the model's only output is {output.name!r}, found {each.get('name')!r}")
    wanted = _parameters("the request", request).get("binary_data_output", False)
    for each in outputs:
        wanted = _parameters(f"output {output.name!r}", each).get("binary_data", wanted)
    if not isinstance(wanted, bool):
        raise bad(f"binary_data: expected true or false, found {wanted!r}")
    return wanted
