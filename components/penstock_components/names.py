"""Names of remote things, made from what they are made from: a retry computes the same name and finds the thing it started."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

_HASH: Final = 10


def deterministic(prefix: str, *parts: object, limit: int = 63) -> str:
    """A DNS label `<prefix>-<hash>`: lower case, letters, digits and hyphens, starts with a letter, at most `limit` characters.

    The hash is over the whole prefix and the parts as JSON (dictionaries in any order give one name), so it differs where any
    of them differs. It is 40 bits: a clash among 100,000 names of one prefix has a chance of 1 in 200.

    Raises:
        TypeError: a part is not JSON.
    """
    digest = hashlib.sha256(json.dumps([prefix, *parts], sort_keys=True).encode()).hexdigest()[:_HASH]
    label = re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-")
    label = label if label[:1].isalpha() else f"x-{label}".rstrip("-")
    return f"{label[: limit - _HASH - 1].rstrip('-')}-{digest}"
