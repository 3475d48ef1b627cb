"""Progress for people: each step with its time, and for long ones a sign of life.

Lines, which also read well in CI logs; on a terminal the steps that run now stand in a last line that is written over.
Several threads may have steps at once.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_TERMINAL_SECONDS, _LOG_SECONDS = 1.0, 30.0
_WIDTH = 100


class Steps:
    """Prints `[  12.3 s] step` when a step begins and its length when it ends."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream, self._quiet = stream or sys.stderr, quiet
        self._terminal = self._stream.isatty()
        self._begun = time.monotonic()
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ticker: threading.Thread | None = None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, hint: str = "") -> Iterator[None]:
        """`hint` says what to expect, e.g. `about 8 min the first time`."""
        begun = time.monotonic()
        self.say(f"{name}{f' ({hint})' if hint else ''} …")
        self._enter(name, begun)
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(name, None)
        self.seconds[name] = time.monotonic() - begun
        self.say(f"{name}: {self.seconds[name]:.1f} s")

    def say(self, text: str) -> None:
        if not self._quiet:
            with self._lock:
                clear = "\r\033[K" if self._terminal else ""
                print(f"{clear}[{time.monotonic() - self._begun:7.1f} s] {text}", file=self._stream, flush=True)

    def _enter(self, name: str, begun: float) -> None:
        with self._lock:
            self._running[name] = begun
            if not self._quiet and (self._ticker is None or not self._ticker.is_alive()):
                self._ticker = threading.Thread(target=self._tick, daemon=True)
                self._ticker.start()

    def _tick(self) -> None:
        """Ends with the last step, so that nothing is left running."""
        shown = time.monotonic()
        while True:
            time.sleep(0.1)
            with self._lock:
                if not self._running:
                    self._ticker = None
                    return
                now = time.monotonic()
                if now - shown < (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS):
                    continue
                shown = now
                text = "   ".join(f"{name} {now - begun:.0f} s" for name, begun in self._running.items())
                line = f"[{now - self._begun:7.1f} s] running: {text}"
                if self._terminal:
                    print(f"\r\033[K{line[:_WIDTH]}", end="", file=self._stream, flush=True)
                else:
                    print(line, file=self._stream, flush=True)
