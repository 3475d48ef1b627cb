"""The ground of one training: where its data and its model lie in the volume, and the command that trains there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from penstock_components import adoption
from penstock_components.kube import Kube, Object
from penstock_components.training.train import exported
from penstock_pipelines import run as runs

from . import program, volume

log = logging.getLogger(__name__)

DATA: Final = "/data"
PROGRAM: Final = "/opt/penstock/program"


class Ground(NamedTuple):
    """The volume's name, the TrainingJob's volumes, and its command."""

    volume_name: str
    volumes: list[Object]
    command: list[str]


def prepare(
    run_uri: str,
    dataset_uri: str,
    model_uri: str,
    volume: Mapping[str, Any],
    volume_name: str,
    model_name: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    namespace: str,
    volume_minutes: float,
    poll_seconds: float,
) -> Ground:
    """Wait until the run's volume is available, or the one named; put the program into a ConfigMap.

    A run whose training is complete, or whose model is whole in S3 and the job gone with its time to live, gets the same answer
    without a volume: nothing will be mounted.

    Raises:
        ComponentError: the volume failed, is not available in time, or does not hold the two folders.
    """
    kube = Kube(namespace)
    named, folders = _volume(kube, run_uri, (dataset_uri, model_uri), volume, volume_name, volume_minutes, poll_seconds)
    config = program.put(kube)
    mounts: list[Object] = [
        {"name": "data", "mountPath": DATA, "lustreVolume": named},
        {"name": "program", "mountPath": PROGRAM, "configMap": {"name": config}, "readOnly": True},
    ]
    options = {"--name": model_name, "--epochs": epochs, "--batch-size": batch_size, "--lr": learning_rate}
    data, model = (f"{DATA}{path}" for path in folders)
    # Not python3: kfp's local runner puts its own interpreter wherever a value says so.
    command = ["python", f"{PROGRAM}/{program.FILE}", f"--data={data}", f"--out={model}"]
    return Ground(named, mounts, [*command, *(f"{option}={value}" for option, value in options.items())])


def _volume(
    kube: Kube, run_uri: str, uris: tuple[str, str], spec: Mapping[str, Any], given: str, minutes: float, every: float
) -> tuple[str, list[str]]:
    """Name of the volume, and the folders of both URIs in it."""
    if given:
        found = volume.existing(kube, given)
        volume.wait(kube, given, minutes * 60, every)
        return given, volume.places(found, *uris)
    wish = volume.build(run_uri, *uris, spec)
    name = wish["metadata"]["name"]
    jobs = runs.of_run(kube, runs.PENSTOCK, runs.TRAINING_JOB, run_uri)
    if any(adoption.condition(job, "Complete") for job in jobs):
        log.info("the run's training is complete; no volume is made")
    elif not jobs and exported.look(uris[1]).model is not None:
        log.info("the run's model is whole at %s, and no training of it is left; no volume is made", uris[1])
    else:
        volume.make(kube, wish, uris[1], minutes * 60, every)
    return name, volume.places(wish, *uris)
