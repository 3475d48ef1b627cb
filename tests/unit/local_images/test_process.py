"""A build step as seen by the user: one line when it starts, one message when it fails."""

import os
from pathlib import Path

import pytest

from penstock_local.images import ImagesError
from penstock_local.images.process import run, shortened, step_of


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("STEP 2/3: RUN true", "2/3: RUN true"),
        (
            "[3/4] STEP 5/5: RUN /opt/penstock/build/build-wheel /wheels",
            "[3/4] 5/5: RUN /opt/penstock/build/build-wheel /wheels",
        ),
        ("#12 [horovod 4/4] RUN build-wheel /wheels", "[horovod 4/4] RUN build-wheel /wheels"),
        ("#1 [internal] load build definition from Dockerfile", None),
        ("#12 12.3 [ 45%] Building CXX object", None),
        ("[ 45%] Building CXX object", None),
        ("#include <mpi.h>", None),
    ],
)
def test_steps_of_both_engines_are_told_from_the_rest_of_their_output(line: str, step: str | None) -> None:
    assert step_of(line) == step


def test_a_long_line_is_cut_to_fit_a_terminal() -> None:
    assert len(shortened("word " * 100)) == 100


def test_steps_are_reported_and_everything_is_logged(tmp_path: Path) -> None:
    heard: list[str] = []
    log = tmp_path / "log"
    command = ["sh", "-c", "echo 'STEP 1/1: RUN x'; echo detail; echo last"]
    assert run(command, log=log, report=heard.append, environment=os.environ, what="building") == "last"
    assert heard == ["1/1: RUN x"]
    assert "detail" in log.read_text()


def test_a_failed_command_is_one_message_with_its_last_lines_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ImagesError) as caught:
        run(
            ["sh", "-c", "echo 'no space left' >&2; exit 3"],
            log=log,
            report=print,
            environment=os.environ,
            what="building image x",
        )
    message = str(caught.value)
    assert message.startswith("building image x failed (sh ended with 3)")
    assert str(log) in message
    assert message.endswith("no space left")
