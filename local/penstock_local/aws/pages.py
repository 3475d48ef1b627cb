"""Pages of a list, as AWS hands them out: at most `limit`, then a token for the next. A token is an offset, base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def page(items: Sequence[T], limit: int, token: str | None) -> tuple[Sequence[T], dict[str, str]]:
    """The page and `{"NextToken": ...}`, empty on the last page.

    Raises:
        ValueError: not a token of ours.
    """
    try:
        start = int(base64.b64decode(token, validate=True)) if token else 0
    except (binascii.Error, ValueError):
        raise ValueError(f"NextToken {token!r} is not one of this service") from None
    end = start + limit
    following = {"NextToken": base64.b64encode(str(end).encode()).decode()} if end < len(items) else {}
    return items[start:end], following
