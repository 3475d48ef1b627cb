"""The compiled pipeline: the same as its source, and every task with what a task needs in a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock_pipelines import compile as compiling

FILES = [compiling.FOLDER / f"{name}.yaml" for name in compiling.PIPELINES]
# Where a step may be: with a body as long as KFP's wait for a pod, no shorter than what the step itself waits for.
ABOVE = {
    "ground-truth-labelling": 720,
    "train": 72 + 3,
    "training-ground": 1 + 0.5,
    "clean-up": 0.5,
    "deploy": 0.25,
    "check-parameters": 0.25,
}

# How often KFP tries a step again. A parameter that is wrong at one try is wrong at the next, and the check waits out an outage
# itself; but its pod may be lost with the node like any other, and what it left behind is deleted by the next try.
RETRIES = {"check-parameters": 1}


def step(label: str) -> str:
    """The step of an executor's label; one that stands twice in the pipeline has a number."""
    return re.sub(r"-\d+$", "", label.removeprefix("exec-"))


def documents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform


def tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task that runs a container, in any part of the pipeline: its executor's label, and itself."""
    for dag in [spec["root"], *spec["components"].values()]:
        for task in dag.get("dag", {}).get("tasks", {}).values():
            component = spec["components"][task["componentRef"]["name"]]
            if "executorLabel" in component:
                yield component["executorLabel"], task


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_the_yaml_is_what_its_source_compiles_to(tmp_path: Path) -> None:
    for made in compiling.write(tmp_path):
        assert made.read_text() == (compiling.FOLDER / made.name).read_text(), "run python -m penstock_pipelines.compile"


def test_the_image_of_the_steps_is_chosen_when_compiling(tmp_path: Path) -> None:
    image = "registry.example/penstock/components:9.9.9"
    command = [sys.executable, "-m", "penstock_pipelines.compile", str(tmp_path)]
    subprocess.run(command, env={**os.environ, "PENSTOCK_COMPONENTS_IMAGE": image}, check=True, timeout=120)
    for name in compiling.PIPELINES:
        executors = documents(tmp_path / f"{name}.yaml")[0]["deploymentSpec"]["executors"]
        assert {each["container"]["image"] for each in executors.values()} == {image}


def test_every_task_runs_anew_and_outlives_its_pod_and_only_the_check_is_tried_no_more_than_that_takes(path: Path) -> None:
    found = list(tasks(documents(path)[0]))
    assert len(found) == 13
    for label, task in found:
        assert not task.get("cachingOptions", {}).get("enableCache", False), label
        policy = task["retryPolicy"]
        assert policy["maxRetryCount"] == RETRIES.get(step(label), 3), label
        assert (policy["backoffDuration"], policy["backoffMaxDuration"]) == ("30s", "600s"), label
        assert policy["backoffFactor"] == 2.0


def test_every_task_has_a_time_limit_above_what_it_waits_for_itself(path: Path) -> None:
    spec, platform = documents(path)
    limits = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for label, _ in tasks(spec):
        seconds = int(limits[label]["activeDeadlineSeconds"])
        assert 3600 * ABOVE.get(step(label), 0) < seconds <= 31 * 86400, label


def test_a_labelling_step_whose_node_is_drained_leaves_the_peoples_work_alone() -> None:
    spec, _ = documents(compiling.FOLDER / "end_to_end.yaml")
    (task,) = (task for label, task in tasks(spec) if label == "exec-ground-truth-labelling")
    assert task["inputs"]["parameters"]["stop_on_cancel"] == {"runtimeValue": {"constant": False}}


def test_every_image_is_pinned_and_every_task_asks_for_room(path: Path) -> None:
    spec, _ = documents(path)
    executors = spec["deploymentSpec"]["executors"]
    for label, _ in tasks(spec):
        container = executors[label]["container"]
        assert re.search(r"(:\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$", container["image"]), label
        assert container["resources"].keys() >= {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"}, label
        assert "pip install" not in " ".join(container["command"]), label


def test_no_secret_and_no_place_of_a_machine_is_in_the_yaml(path: Path) -> None:
    text = path.read_text()
    for pattern in (r"AKIA[0-9A-Z]{16}", r"(?i)secret_?access_?key", r"/home/", r"/root/", r"/work/"):
        assert not re.search(pattern, text), pattern


def test_conditions_rest_on_single_bools_and_have_both_branches(path: Path) -> None:
    spec, _ = documents(path)
    dags = [spec["root"], *spec["components"].values()]
    found = [
        task
        for dag in dags
        for task in dag.get("dag", {}).get("tasks", {}).values()
        if "condition" in task.get("triggerPolicy", {})
    ]
    conditions = [" ".join(task["triggerPolicy"]["condition"].split()) for task in found]
    good = "inputs.parameter_values['pipelinechannel--gate-Output'] == true"
    assert conditions == [f"!({good})", good] or conditions == [good, f"!({good})"], conditions
