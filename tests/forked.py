"""Programs as forks of a process that has their libraries loaded and has run nothing of them.

Most of a start is imports (half a second of the operator, two of the model server), and tests start them two hundred times. A
fork has its own environment, output and exit code, and does all that the program does once it is loaded, but for what an
interpreter does at its end.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """What all programs of this test run find loaded. To be called before the first is started."""
    for module in modules:
        assert importlib.util.find_spec(module), f"there is no {module}"  # the fork server would go on without a word
    _forks.set_forkserver_preload(["pytest", *modules])  # pytest, as a fork begins with the main module of its parent


class Forked:
    """A program that runs. `main`: a function that can be pickled; `arguments`: sys.argv; `log`: what it prints is appended."""

    def __init__(self, main: Callable[[], None], arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        log.touch()
        self._log = log
        self._process: ForkServerProcess = _forks.Process(target=_become, args=(main, arguments, dict(environment), log))
        self._process.start()

    def ended(self) -> bool:
        return not self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """A signal; no effect when it has ended."""
        assert self._process.pid is not None
        if not self.ended():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def wait(self, seconds: float = 30.0) -> int:
        """The exit code, negative for a signal.

        Raises:
            TimeoutError: it runs on.
        """
        self._process.join(timeout=seconds)
        if self._process.exitcode is None:
            raise TimeoutError(f"it has not ended after {seconds:.0f} s:\n{self._log.read_text()}")
        return self._process.exitcode


@atexit.register
def _end_what_is_left() -> None:
    """What a failed test left behind; multiprocessing's own handler, which was registered before, waits for it."""
    for each in multiprocessing.active_children():
        each.kill()


def _become(main: Callable[[], None], arguments: list[str], environment: dict[str, str], log: Path) -> None:
    gc.freeze()  # the collector would touch, and so copy, every page of the libraries
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    main()
