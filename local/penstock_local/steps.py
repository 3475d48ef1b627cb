"""Progress for people: each step with its time. Lines, not a moving bar: they also read well in CI logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Steps:
    """Prints `[  12.3 s] step` when a step begins and its length when it ends."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream, self._quiet = stream or sys.stderr, quiet
        self._begun = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, hint: str = "") -> Iterator[None]:
        """`hint` says what to expect, e.g. `about 8 min the first time`."""
        begun = time.monotonic()
        self.say(f"{name}{f' ({hint})' if hint else ''} …")
        yield
        self.seconds[name] = time.monotonic() - begun
        self.say(f"{name}: {self.seconds[name]:.1f} s")

    def say(self, text: str) -> None:
        if not self._quiet:
            print(f"[{time.monotonic() - self._begun:7.1f} s] {text}", file=self._stream, flush=True)
