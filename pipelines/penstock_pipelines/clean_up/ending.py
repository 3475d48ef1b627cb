"""Stop and delete what a run has left: looked for by the run's name, since a step that was killed tells nobody what it made.

Each thing is tried by itself: a labelling service that does not answer must not keep a file system alive. What is complete or
has failed costs nothing and stays, to be looked at; its own time to live ends it.

A start that does not own the run touches nothing: one that was refused has made nothing, and what an earlier start made belongs
to the one that took the run over. Only if that one has ended already, the earlier one ends what its steps made since.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from botocore.exceptions import ClientError

from penstock_components import adoption, aws, s3, waiting
from penstock_components.deployment.deploy.request import ENDPOINT, REVISION
from penstock_components.errors import ComponentError, Outage, several
from penstock_components.kube import Kube, Object
from penstock_pipelines import run as runs
from penstock_pipelines.training_ground import volume

log = logging.getLogger(__name__)


class Ended(NamedTuple):
    """KFP's word for how the run ended, what was still there and was stopped, and why nothing was touched ('' if it was)."""

    state: str
    stopped: list[str]
    left_alone: str


def end(
    state: str,
    error: str,
    output_uri: str,
    endpoint: str,
    run: str,
    job_id: str,
    labelling_job: str = "",
    labelling_attempt: int = 1,
    namespace: str = "",
    gone_minutes: float = 30.0,
    poll_seconds: float = 5.0,
) -> Ended:
    """Stop everything of the run, wait until its volume is gone, and leave `<output_uri>/<run>/end.json`; if the run is ours.

    A labelling job that the user has named may serve other runs, and goes on; the run's own is stopped.

    Raises:
        ComponentError: something could not be stopped, or the volume does not go; everything else was done. Or it is not known
            whose the run is; then nothing was done.
    """
    run_id = run or job_id
    run_uri = runs.folder(output_uri, run_id)
    left_alone = _not_ours(run_uri, job_id, state)
    if left_alone:
        log.warning("run %s: %s%s; %s", run_id, state, f": {error}" if error else "", left_alone)
        return Ended(state, [], left_alone)
    model_uri = s3.join(run_uri, "model")
    work: list[tuple[str, Callable[[Kube], Iterator[str]]]] = [
        ("jobs", partial(_jobs, run_uri=run_uri)),
        ("deployments", partial(_deployments, endpoint=endpoint, model_uri=model_uri)),
        ("volume", partial(_volume, run_uri=run_uri, seconds=gone_minutes * 60, every=poll_seconds)),
    ]
    stopped: list[str] = []
    problems: list[str] = []
    try:
        stopped += [] if labelling_job else _labelling(runs.labelling_job(output_uri, run_id, "", labelling_attempt))
    except Exception as failure:
        log.exception("the labelling job")
        problems.append(f"labelling job: {failure}")
    for what, stop in work:
        try:
            for name in stop(Kube(namespace)):
                log.warning("%s", name)
                stopped.append(name)
        except Exception as failure:
            log.exception("%s", what)
            problems.append(f"{what}: {failure}")
    _note(run_uri, job_id, state, error, stopped, problems)
    log.info("run %s: %s%s", run_id, state, f": {error}" if error else "")
    if problems:
        raise several(f"run {run_id} ended ({state}), but something of it may still be there; look after it by hand:", problems)
    return Ended(state, stopped, "")


def _not_ours(run_uri: str, job_id: str, state: str) -> str:
    """Why nothing of the run may be touched; '' if it is this start's."""
    if not run_uri.startswith("s3://"):
        return "the run was refused and has made nothing"
    try:
        owners = runs.owners(run_uri)
        if job_id in owners[:-1] and _ended(run_uri, owners[-1]):
            return ""
    except (ComponentError, Outage) as failure:
        raise ComponentError(
            f"the run ended ({state}), but whose it is is not known, and nothing was stopped: {failure}; look after it by hand"
        ) from failure
    if not owners:
        return f"there is no {run_uri}/run.json: the run was refused and has made nothing"
    return "" if owners[-1] == job_id else f"{run_uri} is the run of {owners[-1]}, not of {job_id}: nothing of it was touched"


def _ended(run_uri: str, job_id: str) -> bool:
    """Whether this start's exit handler has done its work."""
    uri = s3.join(run_uri, "end.json")
    try:
        return s3.exists(uri) and json.loads(s3.read(uri)).get("job_id") == job_id
    except (ValueError, AttributeError) as error:
        raise ComponentError(f"{uri} does not tell how a run ended ({error!r})") from error


def _jobs(kube: Kube, run_uri: str) -> Iterator[str]:
    """TrainingJobs and Jobs of the run that are not over."""
    for api_version, kind in ((runs.PENSTOCK, runs.TRAINING_JOB), ("batch/v1", "Job")):
        for found in runs.of_run(kube, api_version, kind, run_uri):
            over = any(adoption.condition(found, each) for each in ("Complete", "Failed"))
            if not over and _delete(kube, found):
                yield f"{kind} {found['metadata']['name']} was still running and is deleted"


def _deployments(kube: Kube, endpoint: str, model_uri: str) -> Iterator[str]:
    """New pods of a deployment that never came to serve; what the Service leads to stays, and what belongs to something else
    (KServe makes Deployments of its own for an InferenceService, which serves)."""
    service = kube.get("v1", "Service", endpoint)
    serving = (service or {"spec": {}})["spec"].get("selector", {}).get(REVISION)
    for found in kube.select("apps/v1", "Deployment", {ENDPOINT: endpoint}):
        env = found["spec"]["template"]["spec"]["containers"][0].get("env", [])
        ours = {"name": "MODEL_URI", "value": model_uri} in env and not found["metadata"].get("ownerReferences")
        if ours and found["metadata"]["labels"].get(REVISION) != serving and _delete(kube, found):
            yield f"Deployment {found['metadata']['name']} never served and is deleted"


def _volume(kube: Kube, run_uri: str, seconds: float, every: float) -> Iterator[str]:
    """The run's own LustreVolume. Its operator exports what is not in S3 yet before the file system goes."""
    name = runs.volume(run_uri)
    found = kube.get(runs.PENSTOCK, runs.LUSTRE_VOLUME, name) if kube.knows(runs.PENSTOCK, runs.LUSTRE_VOLUME) else None
    if found is None or found["metadata"].get("annotations", {}).get(runs.RUN) != run_uri:
        return
    _delete(kube, found)

    def describe() -> Object | None:
        return kube.get(runs.PENSTOCK, runs.LUSTRE_VOLUME, name)

    try:
        waiting.poll(
            describe,
            until=lambda now: now is None or now["metadata"]["uid"] != found["metadata"]["uid"],
            every=every,
            deadline=seconds,
            describe_state=lambda now: "gone" if now is None else volume.line(now),
        )
    except waiting.Overdue as error:
        raise ComponentError(f"LustreVolume {name} is deleted but not gone, and its file system costs on: {error}") from error
    yield f"LustreVolume {name} is deleted"


def _delete(kube: Kube, found: Object) -> bool:
    return kube.delete(found["apiVersion"], found["kind"], found["metadata"]["name"], found["metadata"]["uid"])


def _labelling(name: str) -> list[str]:
    """The run's own labelling job, if it is under way."""
    client = aws.client("sagemaker")
    try:
        status = client.describe_labeling_job(LabelingJobName=name)["LabelingJobStatus"]
    except ClientError as error:
        if aws.code(error) in {"ResourceNotFound", "ResourceNotFoundException"}:
            return []
        raise
    if status not in {"Initializing", "InProgress"}:
        return []
    client.stop_labeling_job(LabelingJobName=name)
    log.warning("labelling job %s is stopped", name)
    return [f"labelling job {name} was still running and is stopped"]


def _note(run_uri: str, job_id: str, state: str, error: str, stopped: list[str], problems: list[str]) -> None:
    about = {"ended": runs.now(), "job_id": job_id, "state": state, "error": error, "stopped": stopped, "problems": problems}
    uri = s3.join(run_uri, "end.json")
    try:
        if runs.owners(run_uri)[-1] != job_id:  # a former owner: how the run ended is told
            return
        s3.write(uri, json.dumps(about, indent=1).encode(), "application/json")
    except Exception as failure:  # a wrong output_uri ended the run; it must not hide how
        log.warning("%s is not written: %s", uri, failure)
