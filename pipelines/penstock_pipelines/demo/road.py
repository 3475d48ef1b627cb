"""One run of the pipeline by kfp's local runner in a process of its own; its steps are told as they begin and end.

    python -m penstock_pipelines.demo.road PARAMETERS.json FOLDER [--yaml]

kfp prints everything its steps print; that goes to a file, and what kfp says about its steps becomes progress.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from penstock_local.errors import LocalError
from penstock_local.steps import Steps

_COLOUR: Final = re.compile(r"\x1b\[\d*m")
_BEGUN: Final = re.compile(r"Executing task '([^']+)'")
_ENDED: Final = re.compile(r"Task '([^']+)' finished with status (\w+)")
_TAIL = 40


class Run(NamedTuple):
    """What a run was: seconds of each step in their order, and the outputs of each step."""

    seconds: dict[str, float]
    outputs: dict[str, dict[str, Any]]


def follow(
    parameters: Mapping[str, Any],
    folder: Path,
    steps: Steps,
    *,
    from_yaml: bool = False,
    during: Callable[[str], None] = lambda line: None,
) -> Run:
    """Run the pipeline to its end, on the cluster and the AWS account of the environment.

    Args:
        folder: for the parameters, kfp's outputs and `pipeline.log`.
        from_yaml: run the compiled pipeline instead of the Python function.
        during: called with every line that a step prints.

    Raises:
        LocalError: the run failed; the message has the last lines of the step that failed, not the exit handler's after it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parameters.json").write_text(json.dumps(parameters, indent=1))
    log = folder / "pipeline.log"
    command = [sys.executable, "-m", __spec__.name, str(folder / "parameters.json"), str(folder)]
    command += ["--yaml"] if from_yaml else []
    seconds: dict[str, float] = {}
    tail: deque[str] = deque(maxlen=_TAIL)
    failed: dict[str, list[str]] = {}
    with ExitStack() as running, log.open("w") as file:
        begun, step = time.monotonic(), ""
        process = running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        assert process.stdout is not None
        for line in process.stdout:
            plain = _COLOUR.sub("", line)
            file.write(plain)
            file.flush()
            tail.append(plain.rstrip())
            if (match := _BEGUN.search(plain)) and match[1] != step:
                begun, step = time.monotonic(), match[1]
                tail.clear()
                steps.say(f"  {step} …")
            elif (match := _ENDED.search(plain)) and match[1] == step:
                seconds[step] = time.monotonic() - begun
                failed.pop(step, None)
                if match[2] != "SUCCESS":
                    failed[step] = list(tail)
                steps.say(f"  {step}: {seconds[step]:.1f} s" + ("" if match[2] == "SUCCESS" else f", {match[2]}"))
            else:
                during(plain.rstrip())
    if process.returncode != 0:
        where, last = next(iter(failed.items()), ("its end", list(tail)))
        raise LocalError("\n".join([f"the pipeline failed at {where}:", *last, f"all of it: {log}"]))
    return Run(seconds, {step: _outputs(folder, step) for step in seconds})


def _outputs(folder: Path, step: str) -> dict[str, Any]:
    """Of the last time the step ran; kfp files each run under its start."""
    files = sorted((folder / "kfp").rglob(f"{step}/executor_output.json"), key=lambda path: path.stat().st_mtime)
    found: dict[str, Any] = json.loads(files[-1].read_text()).get("parameterValues", {}) if files else {}
    return found


def main() -> None:
    from kfp import components, local

    from penstock_pipelines import compile as compiling
    from penstock_pipelines.end_to_end import end_to_end

    warnings.simplefilter("ignore")  # resources and time limits mean nothing to the local runner
    parameters, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"))
    if "--yaml" in sys.argv:
        components.load_component_from_file(str(compiling.FOLDER / "end_to_end.yaml"))(**parameters)
    else:
        end_to_end(**parameters)


if __name__ == "__main__":
    main()
