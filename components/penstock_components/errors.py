"""The one error of the components: something a user can put right.

Its message names the field or object, what was found and what to do. Anything else that is raised is a bug or an outage, and
is let through with its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType


class ComponentError(ValueError):
    """Wrong input, a missing object, or a remote job that failed; the message says what to do."""


class Outage(RuntimeError):
    """A service that does not do its work just now. No ComponentError: nothing is to be put right, only to be asked again."""


def wrong(count: int, noun: str) -> str:
    """The count in words: 1 parameter is wrong, 2 parameters are wrong."""
    return f"{count} {noun} is wrong" if count == 1 else f"{count} {noun}s are wrong"


def several(head: str, problems: Iterable[str], shown: int = 10) -> ComponentError:
    """One error for many problems: the first `shown` of them a line each, then how many more there are."""
    lines = list(problems)
    more = [f"  and {len(lines) - shown} more"] if len(lines) > shown else []
    return ComponentError("\n".join([head, *(f"  {line}" for line in lines[:shown]), *more]))


def tell_plainly() -> None:
    """From now on a ComponentError that ends this process is told by its message alone: a traceback tells of this code, and
    the message of what the user can put right."""
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, ComponentError):
        print(error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
