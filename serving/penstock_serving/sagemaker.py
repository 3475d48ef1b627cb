"""SageMaker's /invocations: the v1 body as application/json, or one array as application/x-npy (numpy.save).

The answer has the type Accept asks for, by default the request's. An .npy header is parsed by numpy, but nothing is allocated
or unpickled for it: its shape and type are compared with the model's first.
"""

from __future__ import annotations

import io

import numpy as np

from penstock_serving import v1
from penstock_serving.errors import RequestError, bad
from penstock_serving.tensors import DATATYPES, Array, Signature, check_shape, from_bytes

JSON = "application/json"
NPY = "application/x-npy"


def read(body: bytes, content_type: str, expected: Signature) -> Array:
    """The rows of a request.

    Raises:
        RequestError: 415, another type; 400, it does not fit the model.
    """
    if content_type == JSON:
        return v1.read(body, expected)
    if content_type != NPY:
        raise RequestError(415, f"Content-Type: expected {JSON} or {NPY}, found {content_type!r}")
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except ValueError as error:
        raise bad(f"the body: is no .npy: {error}") from None
    if dtype != DATATYPES[expected.datatype]:
        raise bad(f"the body: expected dtype {DATATYPES[expected.datatype]}, found {dtype}")
    check_shape("the body", shape, expected)
    data = memoryview(body)[stream.tell() :]
    if expected.datatype == "BF16":
        # numpy has no bfloat16, so its arrays are float32 here.
        expected = Signature(expected.name, "FP32", expected.row)
    if not fortran:
        return from_bytes("the body", data, shape, expected)
    return np.ascontiguousarray(from_bytes("the body", data, shape, expected).reshape(shape[::-1]).T)


def answer_type(accept: str, content_type: str) -> str:
    """The type of the answer for an Accept header, "" where there is none.

    Raises:
        RequestError: 406, it takes neither.
    """
    accepted = [each.partition(";")[0].strip().lower() for each in accept.split(",") if each.strip()]
    for each in accepted:
        if each in (JSON, NPY):
            return each
    if not accepted or "*/*" in accepted or "application/*" in accepted:
        return content_type
    raise RequestError(406, f"Accept: expected {JSON} or {NPY}, found {accept!r}")


def answer(rows: Array, content_type: str) -> bytes:
    """The body of the answer."""
    if content_type == JSON:
        return v1.answer(rows)
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=False)
    return stream.getvalue()
