"""A pipeline run: what it is called, where its files lie, and which remote objects are its own.

The run's name is KFP's run id, or the name the user gave: a run that is started again under the name of an earlier one finds
what that one made, and goes on from there. All of it follows from name and parameters, so the exit handler, which may use no
other step's outputs, knows it too. Remote objects carry the run's folder in an annotation: two runs of one name that write to
different places are different runs.

Several starts may share a name. `run.json` names the one that owns what the run makes, by KFP's job id: the newest whose
parameters were accepted. Only the owner ends things, and after its end those that owned the run before.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from penstock_components import names, s3
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object
from penstock_components.training.train.request import API_VERSION as PENSTOCK
from penstock_components.training.train.request import KIND as TRAINING_JOB

RUN: Final = "penstock.dev/run-id"
LUSTRE_VOLUME: Final = "LustreVolume"
__all__ = ["LUSTRE_VOLUME", "PENSTOCK", "RUN", "TRAINING_JOB", "folder", "labelling_job", "now", "of_run", "owners", "volume"]


def folder(output_uri: str, run_id: str) -> str:
    """Where everything of a run is written: `<output_uri>/<run>`."""
    return s3.join(output_uri, run_id)


def labelling_job(output_uri: str, run_id: str, given: str, attempt: int = 1) -> str:
    """The labelling job's name: the one given, which other runs may share, else the run's own. A job that was stopped cannot go
    on and keeps its name for ever, so each further attempt has a name of its own."""
    name = given or names.deterministic("label", output_uri, run_id)
    return name if attempt == 1 else f"{name}-{attempt}"


def owners(run_uri: str) -> list[str]:
    """The job ids of the starts that have owned the run, the one that does now last; empty if none was ever accepted.

    Raises:
        ComponentError: S3 does not say, or run.json is not a run's.
    """
    uri = s3.join(run_uri, "run.json")
    if not s3.exists(uri):
        return []
    try:
        found = json.loads(s3.read(uri))
        return [*map(str, found["former_owners"]), str(found["owner"])]
    except (ValueError, KeyError, TypeError) as error:
        raise ComponentError(f"{uri} does not name its owners ({error!r})") from error


def volume(run_uri: str) -> str:
    """The name of the run's own LustreVolume."""
    return names.deterministic("run", run_uri)


def of_run(kube: Kube, api_version: str, kind: str, run_uri: str) -> list[Object]:
    """The namespace's objects that steps of this run made; none where the cluster does not know the kind."""
    if not kube.knows(api_version, kind):
        return []
    return [each for each in kube.select(api_version, kind) if each["metadata"].get("annotations", {}).get(RUN) == run_uri]


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
