"""Tensors of requests: KServe v2 datatypes; JSON numbers and raw bytes into numpy arrays that fit the model, and back to JSON.

Nothing is guessed: text and lists of booleans are not numbers, 1.5 is not an integer, and a number that does not fit its type
is an error, not an infinity. BF16, which numpy lacks, is kept as float32 here; its bytes are read and the model converts it
back exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from penstock_serving.errors import RequestError, bad

Array = npt.NDArray[Any]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.float32),
}
_BY_DTYPE = {dtype.name: name for name, dtype in DATATYPES.items() if name != "BF16"} | {"bfloat16": "BF16"}
_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "numbers", "U": "text", "O": "null, objects or huge integers"}


@dataclass(frozen=True, slots=True)
class Signature:
    """One tensor of the model: its name, its v2 datatype and the shape of one row, without the batch dimension."""

    name: str
    datatype: str
    row: tuple[int, ...]

    @property
    def shape(self) -> list[int]:
        """The whole shape; -1 is the batch."""
        return [-1, *self.row]

    @property
    def item_bytes(self) -> int:
        return 2 if self.datatype == "BF16" else DATATYPES[self.datatype].itemsize


def datatype_of(dtype: str) -> str:
    """The v2 datatype of a torch or numpy dtype's name.

    Raises:
        ValueError: it has none (complex, float8).
    """
    if dtype not in _BY_DTYPE:
        raise ValueError(f"dtype {dtype!r} is not served; use one of {', '.join(_BY_DTYPE)}")
    return _BY_DTYPE[dtype]


def check_shape(where: str, shape: tuple[int, ...], expected: Signature) -> None:
    """
    Raises:
        RequestError: the shape is not one or more rows of the model's input.
    """
    if shape[1:] != expected.row or not shape:
        raise bad(f"{where}: expected shape {expected.shape} of {expected.datatype}, found {list(shape)}")
    if shape[0] < 1:
        raise bad(f"{where}: expected at least one row, found shape {list(shape)}")


def from_json(where: str, values: list[Any], expected: Signature) -> Array:
    """Nested lists of JSON values as an array of the model's type, in whatever shape they have.

    Raises:
        RequestError: they are ragged, or not all of the model's type.
    """
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError):
        raise bad(f"{where}: the lists in it differ in length; expected shape {expected.shape}") from None
    if found.size == 0:
        return np.zeros(found.shape, DATATYPES[expected.datatype])
    dtype = DATATYPES[expected.datatype]
    if dtype == np.uint64 and found.dtype.kind == "f":
        found = _huge(values, found)
    if found.dtype.kind not in {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]:
        raise bad(f"{where}: expected {expected.datatype}, found {_KINDS.get(found.dtype.kind, found.dtype.name)}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if (low := int(found.min())) < limits.min or (high := int(found.max())) > limits.max:
            raise bad(f"{where}: {low if low < limits.min else high} does not fit {expected.datatype}")
        return found.astype(dtype)
    with np.errstate(over="ignore"):
        array: Array = found.astype(dtype, copy=False)
    # JSON has no infinity, so one here is a number that was too large.
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise bad(f"{where}: {found[~np.isfinite(array)].flat[0]:g} does not fit {expected.datatype}")
    return array


def _huge(values: list[Any], found: Array) -> Array:
    """Integers on both sides of 2**63, which numpy reads as floats; `found` where they are no such integers."""
    each = np.asarray(values, object)
    fit = all(type(value) is int and 0 <= value < 2**64 for value in each.flat)
    return each.astype(np.uint64) if fit else found


def rows_from_json(where: str, values: Any, expected: Signature) -> Array:
    """A list of rows.

    Raises:
        RequestError: it is not one, or a row has not the model's shape and type; the row is named.
    """
    if not isinstance(values, list):
        raise bad(f"{where}: expected a list of rows of shape {list(expected.row)}, found {_kind(values)}")
    try:
        array = from_json(where, values, expected)
        check_shape(where, array.shape, expected)
    except RequestError:
        # Slow, but only now: say which row it is.
        for number, row in enumerate(values):
            place = f"{where}[{number}], input {expected.name!r}"
            if (found := from_json(place, [row], expected).shape[1:]) != expected.row:
                raise bad(f"{place}: expected shape {list(expected.row)} of {expected.datatype}, found {list(found)}") from None
        raise
    return array


def from_bytes(where: str, data: memoryview, shape: tuple[int, ...], expected: Signature) -> Array:
    """Little-endian bytes in row-major order as an array of `shape`, already checked. A copy: aligned and writable, for torch.

    Raises:
        RequestError: their number is not the shape's.
    """
    wanted = math.prod(shape) * expected.item_bytes
    if len(data) != wanted:
        raise bad(f"{where}: shape {list(shape)} of {expected.datatype} is {wanted} bytes, found {len(data)}")
    if expected.datatype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return np.frombuffer(data, DATATYPES[expected.datatype]).reshape(shape).copy()


def parse(where: str, body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestError: it is none.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad(f"{where}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise bad(f"{where}: expected a JSON object, found {_kind(found)}")
    return found


def dump(answer: dict[str, Any], rows: Array) -> bytes:
    """The answer that holds `rows` as JSON.

    Raises:
        RequestError: a value is NaN or infinite, which JSON cannot hold.
    """
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for what is not finite; looking for that is cheaper than looking at every number.
    if b"null" in text and not (finite := np.isfinite(rows)).all():
        row = int(np.argwhere(~finite)[0][0])
        raise RequestError(500, f"the model's output for row {row} is not finite, which JSON cannot hold; ask for binary data")
    return text


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
