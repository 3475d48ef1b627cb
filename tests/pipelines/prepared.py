"""Steps as forks of a process that has their libraries loaded.

A step that kfp's local runner starts spends nearly all of its time on imports (boto3, kubernetes, matplotlib, scikit-learn: 1
to 3 s of CPU). Tests of what a run does, a dozen steps each, begin behind them: the same source, arguments, environment, output
and exit code, in a process of its own. That each step also runs from nothing is shown by the run of a good model and in
tests/e2e.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from kfp.local import subprocess_task_handler

from penstock_local.aws import FakeAWS

LIBRARIES = [
    "kfp.dsl.executor_main",
    "matplotlib.backends.backend_svg",
    "penstock_components.data.split_and_preprocess.prepare",
    "penstock_components.deployment.deploy.rollout",
    "penstock_components.deployment.predict.prediction",
    "penstock_components.evaluation.evaluate.evaluation",
    "penstock_components.evaluation.evaluate.verdict",
    "penstock_components.labelling.consolidate_labels.consolidate",
    "penstock_components.labelling.ground_truth_labelling.job",
    "penstock_components.training.train.job",
    "penstock_pipelines.check_parameters.parameters",
    "penstock_pipelines.clean_up.ending",
    "penstock_pipelines.report.page",
]


@pytest.fixture(scope="session")
def step_server(tmp_path_factory: pytest.TempPathFactory, fake_aws: FakeAWS) -> Iterator[Path]:
    """The socket of a step server."""
    path = tmp_path_factory.mktemp("steps") / "socket"
    command = [sys.executable, str(Path(__file__).with_name("step_server.py")), str(path), *LIBRARIES]
    environment = {**os.environ, **fake_aws.environment(), "_KFP_RUNTIME": "true"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", "a module does not load"
        yield path
        server.stdin.close()


@pytest.fixture
def prepared_steps(step_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kfp's local runner forks its steps."""

    def run(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        shell, option, script, source, *arguments = full_command
        assert (shell, option) == ("sh", "-ec"), full_command
        assert "_KFP_RUNTIME=true" in script, script
        assert "kfp.dsl.executor_main" in script, script
        environment = {**os.environ, **(env_vars or {}), "_KFP_RUNTIME": "true"}
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile(encoding="utf-8", errors="replace") as output:
            connection.connect(str(step_server))
            connection.sendall(json.dumps([source, arguments, environment]).encode())
            connection.shutdown(socket.SHUT_WR)
            code = ""
            for line in output:
                told, _, code = line.partition("\0")
                print(told, end="")
        assert code, "the step server broke off; its words are above"
        return int(code)

    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", run)
