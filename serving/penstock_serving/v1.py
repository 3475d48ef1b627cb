"""KServe's v1 protocol: {"instances": [row, ...]} in, {"predictions": [row, ...]} out.

A prediction is the model's output as it is: for a classifier its logits, in the order of `classes` that the model's metadata
tells. Softmax and labels are the caller's: what a server adds cannot be taken back.
"""

from __future__ import annotations

from typing import Any

from penstock_serving.errors import bad
from penstock_serving.model import Model
from penstock_serving.tensors import Array, Signature, dump, parse, rows_from_json


def read(body: bytes, expected: Signature) -> Array:
    """The rows of a request.

    Raises:
        RequestError: it is no JSON, has no instances, or one of them does not fit the model; the message names it.
    """
    request = parse("the body", body)
    if "instances" not in request:
        raise bad(f'"instances" is missing; expected {{"instances": [row, ...]}}, found the fields {sorted(request)}')
    return rows_from_json("instances", request["instances"], expected)


def answer(rows: Array) -> bytes:
    """The body of the answer."""
    return dump({"predictions": rows}, rows)


def metadata(name: str, model: Model | None, ready: bool) -> dict[str, Any]:
    """What GET /v1/models/NAME tells."""
    return {"name": name, "ready": ready, "classes": list(model.classes) if model else None}
