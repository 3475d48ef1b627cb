"""One command of a build: its output goes to a log file, a line of progress to the terminal, its failure into one message."""

import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from penstock_local.images.errors import ImagesError

Report = Callable[[str], None]

_QUIET_SECONDS = 20.0


def run(command: Sequence[str], *, log: Path, report: Report, environment: Mapping[str, str], what: str) -> str:
    """Runs the command and returns its last line. `report` hears each build step, and a sign of life in between."""
    tail: deque[str] = deque(maxlen=25)
    spoken = time.monotonic()
    with log.open("a") as record:
        record.write(f"$ {' '.join(command)}\n")
        record.flush()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    record.write(line)
                    line = line.strip()
                    if not line:
                        continue
                    tail.append(line)
                    step = step_of(line)
                    if step or time.monotonic() - spoken > _QUIET_SECONDS:
                        report(step or f"  {shortened(line)}")
                        spoken = time.monotonic()
            except BaseException:
                process.terminate()
                raise
    if process.returncode != 0:
        end = "".join(f"\n  {line}" for line in tail)
        raise ImagesError(f"{what} failed ({command[0]} ended with {process.returncode}); the end of {log}:{end}")
    return tail[-1] if tail else ""


def step_of(line: str) -> str | None:
    """The Dockerfile instruction that a line of buildah's or Docker's plain output announces, or None."""
    if line.startswith("STEP ") or (line.startswith("[") and "] STEP " in line):
        return shortened(line.replace("STEP ", ""))
    if line.startswith("#") and "] " in line:
        number, _, rest = line.partition(" ")
        if number[1:].isdigit() and rest.startswith("[") and not rest.startswith("[internal]"):
            return shortened(rest)
    return None


def shortened(line: str, width: int = 100) -> str:
    line = " ".join(line.split())
    return line if len(line) <= width else line[: width - 1] + "…"
