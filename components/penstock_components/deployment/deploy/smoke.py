"""A smoke test of a model server over KServe's v2 protocol: the given samples, and the classes they must get.

It goes through a `Request`, a function that does one HTTP request: in a cluster that is the API server's proxy to one pod, so
that a new pod is asked before any user can reach it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock_components.errors import ComponentError

log = logging.getLogger(__name__)

Request = Callable[[str, str, bytes | None], tuple[int, bytes]]
"""(method, path, body) to (status, body)."""

# A pod is Ready a moment before every proxy on the way knows its address.
_AGAIN: Final = {502, 503, 504}


class SmokeFailed(ComponentError):
    """The model server answers wrongly or not at all."""


def try_out(
    request: Request,
    model: str,
    samples: Sequence[Any],
    expected: Sequence[str] = (),
    *,
    patience: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Send the samples (nested lists, one a row, in the model's shape) and return the classes they got.

    A class is its name where the model tells names, else its index. With `expected` each must be the one given.

    Raises:
        SmokeFailed: an error status, an answer of another form, values that are not finite, or another class.
    """
    about = _ask(request, "GET", f"/v2/models/{model}", None, patience, sleep)
    try:
        tensor = about["inputs"][0]
        name, datatype = tensor["name"], tensor["datatype"]
    except (KeyError, IndexError, TypeError) as error:
        raise SmokeFailed(f"model {model} tells no input: {json.dumps(about)[:300]}") from error
    try:
        rows = np.array(list(samples), dtype=np.float64)
    except ValueError as error:
        raise ComponentError(f"samples are not rows of one shape: {error}") from error
    body = {"inputs": [{"name": name, "datatype": datatype, "shape": list(rows.shape), "data": _numbers(rows, datatype)}]}
    path = f"/v2/models/{model}/infer"
    answer = _ask(request, "POST", path, json.dumps(body).encode(), patience, sleep)
    found = _classes(_outputs(answer, path, len(rows)), about.get("classes") or [])
    wrong = [number for number, want in enumerate(expected) if found[number] != str(want)]
    if wrong:
        first = f"sample {wrong[0]} is {found[wrong[0]]!r}, expected {expected[wrong[0]]!r}"
        raise SmokeFailed(f"{len(wrong)} of {len(found)} samples got another class: {first}")
    log.info("smoke test: %d samples answered: %s", len(found), ", ".join(found[:20]))
    return found


def _ask(
    request: Request, verb: str, path: str, body: bytes | None, patience: float, sleep: Callable[[float], None]
) -> dict[str, Any]:
    left = patience
    while True:
        status, data = request(verb, path, body)
        if status not in _AGAIN or left <= 0:
            break
        sleep(1.0)
        left -= 1.0
    if status != 200:
        raise SmokeFailed(f"{verb} {path} answers {status}: {data[:300].decode(errors='replace')}")
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise SmokeFailed(f"{verb} {path} answers no JSON: {data[:300]!r}") from error
    if not isinstance(answer, dict):
        raise SmokeFailed(f"{verb} {path} answers {type(answer).__name__}, expected an object")
    return answer


def _numbers(rows: NDArray[np.float64], datatype: str) -> list[Any]:
    flat: list[Any] = (rows if datatype.startswith("FP") else rows.astype(np.int64)).ravel().tolist()
    return flat


def _outputs(answer: dict[str, Any], path: str, count: int) -> NDArray[np.float64]:
    try:
        tensor = answer["outputs"][0]
        values = np.array(tensor["data"], dtype=np.float64).reshape(tensor["shape"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SmokeFailed(f"POST {path} answers no tensor: {json.dumps(answer)[:300]}") from error
    if values.ndim != 2 or len(values) != count:
        raise SmokeFailed(f"POST {path} answers shape {list(values.shape)}, expected [{count}, classes]")
    if not np.isfinite(values).all():
        raise SmokeFailed(f"POST {path} answers values that are not finite")
    return values


def _classes(values: NDArray[np.float64], names: Sequence[str]) -> list[str]:
    indices = values.argmax(axis=1).tolist()
    return [str(names[index]) if len(names) == values.shape[1] else str(index) for index in indices]
