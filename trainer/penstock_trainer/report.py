"""From what the training loop handed over to the JSON document of the endpoint. Runs in the sending thread.

The endpoint refuses a whole report for one bad value, so each value is checked here and a bad one is left out, with a
complaint: a training that prints NaN for one metric still shows its step.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_METRICS = 32
MAX_NAME = 63
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_./-]")

Complain = Callable[[str, str], None]
"""(what it is about, the message); said once for each thing it is about."""


def number(value: object) -> float | None:
    """A finite float from a number or a one-element tensor or array of any framework; None when it is neither."""
    try:
        item = getattr(value, "item", None)
        result = float(item() if callable(item) else value)  # type: ignore[arg-type]
    except Exception:
        # Whatever a framework raises here (an array of many elements, a tensor on a lost device) is not the loop's fault.
        return None
    return result if math.isfinite(result) else None


def count(value: object) -> int | None:
    """A whole number >= 0, None otherwise."""
    result = number(value)
    return int(result) if result is not None and result >= 0 else None


def metric_values(metrics: Mapping[str, object], complain: Complain) -> dict[str, float]:
    """Metrics the endpoint accepts: finite, at most 32, names of letters, digits and _ . / - up to 63 characters."""
    values: dict[str, float] = {}
    for given, value in metrics.items():
        name = _NOT_IN_A_NAME.sub("_", str(given))[:MAX_NAME]
        converted = number(value)
        if not name or converted is None:
            complain(f"metric {given}", f"metric {given!r} is left out while it is {_shown(value)}, not a finite number")
        elif len(values) == MAX_METRICS and name not in values:
            complain("metrics", f"only the first {MAX_METRICS} metrics are reported; {given!r} and later ones are not")
            break
        else:
            # Seven digits are all a float32 has, and what a column of kubectl can show.
            values[name] = converted if converted.is_integer() else float(f"{converted:.7g}")
    return values


def document(fields: Mapping[str, Any], metrics: Mapping[str, float]) -> bytes:
    """The report as JSON; fields that are None are left out."""
    body = {name: value for name, value in fields.items() if value is not None}
    if metrics:
        body["metrics"] = dict(metrics)
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _shown(value: object) -> str:
    try:
        if isinstance(value, (int, float)):
            return repr(value)[:40]
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"  # type: ignore[attr-defined]
    except Exception:
        return f"a {type(value).__name__}"
