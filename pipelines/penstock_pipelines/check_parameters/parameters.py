"""What a run is asked to do, and whether it can: everything that is wrong comes as one error, each with its parameter's name.

Nothing is made but `<output_uri>/<run>/run.json`, which shows that the output may be written, and keeps the parameters: a run
that is started again under the same name must be asked for the same. It then takes the run over from the start before it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from penstock_components import aws, manifest, s3, waiting
from penstock_components.data.split_and_preprocess import images
from penstock_components.data.split_and_preprocess.split import check_fractions
from penstock_components.deployment.deploy import request as serving
from penstock_components.errors import ComponentError, several, wrong
from penstock_components.kube import Kube, Object, Refused
from penstock_components.labelling.ground_truth_labelling import checks
from penstock_components.labelling.ground_truth_labelling import request as labelling
from penstock_components.training.train import preflight
from penstock_components.training.train import request as training
from penstock_pipelines import run as runs
from penstock_pipelines.training_ground import volume as volumes

from . import inputs, note

log = logging.getLogger(__name__)

# KFP does not try this step again: what is wrong at one try is wrong at the next. So an outage of AWS is waited out here; one
# of the API server by its client.
OUTAGE_SECONDS: Final = 600.0
EVERY: Final = 10.0
# The steps' own timeouts are a little longer: a step that gives up by itself says why.
MAX_LABELLING_HOURS: Final = 720.0
MAX_TRAINING_HOURS: Final = 72.0
MAX_MODEL_MINUTES: Final = 180.0
# Not a default of the pipeline: KFP writes the keys of a dictionary into the YAML in another order each time.
WORKER: Final = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
_RUN: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The pipeline's parameters that can be wrong; pipelines/README.md says what each means."""

    manifest_uri: str
    output_uri: str
    label_attribute: str
    label_categories: Sequence[str]
    role_arn: str
    workteam_arn: str
    title: str
    description: str
    endpoint: str
    volume: Mapping[str, Any]
    volume_name: str
    labelling_job: str
    labelling_attempt: int
    workers_per_object: int
    labelling_hours: float
    min_confidence: float
    validation_fraction: float
    test_fraction: float
    preprocess: str
    image_size: int
    workers: int
    worker_resources: Mapping[str, Any]
    instance_type: str
    epochs: int
    batch_size: int
    learning_rate: float
    training_hours: float
    model_minutes: float
    threshold: float
    baseline_uri: str
    new_data_uri: str
    trainer_image: str
    serving_image: str
    serving_service_account: str
    replicas: int
    run: str
    job_id: str
    namespace: str
    poll_seconds: float


class Started(NamedTuple):
    """The run: its name, its folder in S3, its labelling job, the shards to predict in the end, what a worker gets."""

    run_id: str
    run_uri: str
    labelling_job: str
    predict_uri: str
    worker_resources: dict[str, Any]


def start(wanted: Parameters) -> Started:
    """Check everything and note the run in S3.

    Raises:
        ComponentError: names every parameter that is wrong, and what to do; or AWS did not answer for ten minutes, or
            gave no credentials for five.
    """
    return waiting.poll(
        lambda: _start(wanted),
        until=lambda started: True,
        every=EVERY,
        deadline=OUTAGE_SECONDS,
        describe_state=lambda started: f"run {started.run_id} writes to {started.run_uri}",
        forgive=aws.patience,
    )


def _start(wanted: Parameters) -> Started:
    run_id = wanted.run or wanted.job_id
    problems = [*_numbers(wanted), *_texts(wanted), *_uris(wanted)]
    problems += [*_labelling(wanted, run_id), *_data(wanted), *_training(wanted), *_later(wanted), *_serving(wanted)]
    problems = list(dict.fromkeys(problems))  # a wrong URI shows in more than one check
    if problems:
        raise several(f"nothing was started, {wrong(len(problems), 'parameter')}:", problems)
    run_uri = runs.folder(wanted.output_uri, run_id)
    note.write(s3.join(run_uri, "run.json"), asdict(wanted))
    predict_uri = wanted.new_data_uri or s3.join(run_uri, "dataset", "test")
    job = runs.labelling_job(wanted.output_uri, run_id, wanted.labelling_job, wanted.labelling_attempt)
    return Started(run_id, run_uri, job, predict_uri, _worker_resources(wanted))


def _numbers(wanted: Parameters) -> Iterator[str]:
    for name, least, most in (
        ("labelling_attempt", 1, 99),
        ("labelling_hours", 0.001, MAX_LABELLING_HOURS),
        ("training_hours", 0.001, MAX_TRAINING_HOURS),
        ("model_minutes", 0.1, MAX_MODEL_MINUTES),
        ("poll_seconds", 0.01, 600),
        ("min_confidence", 0, 1),
        ("image_size", 8, 4096),
        ("workers", 1, 1000),
        ("epochs", 1, 100_000),
        ("batch_size", 1, 65_536),
        ("learning_rate", 1e-9, 10),
        ("threshold", 0, 1),
    ):
        value = getattr(wanted, name)
        if not least <= value <= most:
            yield f"{name} is {value:g}; allowed is {least:g} to {most:g}"


def _texts(wanted: Parameters) -> Iterator[str]:
    if not _RUN.fullmatch(wanted.run or wanted.job_id):
        yield f"run is {wanted.run!r}; letters, digits, '-', '_' and '.', at most 128, a letter or digit first"
    for name in ("trainer_image", "serving_image"):
        if not re.fullmatch(r"\S+", getattr(wanted, name)):
            yield f"{name} is {getattr(wanted, name)!r}; give an image"
        elif not _pinned(getattr(wanted, name)):
            yield f"{name} is {getattr(wanted, name)!r}; give a tag other than latest, or a digest: a retry must run the same"


def _pinned(image: str) -> bool:
    last = image.rpartition("/")[2]
    return "@sha256:" in last or (":" in last and not last.endswith(":latest"))


def _uris(wanted: Parameters) -> Iterator[str]:
    for name in ("manifest_uri", "output_uri", "baseline_uri", "new_data_uri"):
        value = getattr(wanted, name)
        if value or name in {"manifest_uri", "output_uri"}:
            yield from _named(name, partial(s3.parse, value))


def _labelling(wanted: Parameters, run_id: str) -> Iterator[str]:
    """What the labelling step would refuse, now: the same checks, which only read."""
    try:
        content = s3.read(wanted.manifest_uri)
        records = manifest.parse(content, wanted.manifest_uri)
        region = aws.client("sagemaker").meta.region_name
    except ComponentError as error:
        yield f"manifest_uri: {error}"
        return
    asked = labelling.Labelling(
        manifest_uri=wanted.manifest_uri,
        output_uri=s3.join(wanted.output_uri, "labels"),
        label_attribute=wanted.label_attribute,
        label_categories=list(wanted.label_categories),
        role_arn=wanted.role_arn,
        workteam_arn=wanted.workteam_arn,
        title=wanted.title,
        description=wanted.description,
        workers_per_object=wanted.workers_per_object,
        job_name=runs.labelling_job(wanted.output_uri, run_id, wanted.labelling_job, wanted.labelling_attempt),
        attempt=wanted.labelling_attempt,
    )
    found = labelling.problems(asked, records, region)
    yield from (line.replace("job_name ", "labelling_job ", 1) for line in found)
    if found or not wanted.output_uri.startswith("s3://"):
        return
    try:
        remote = checks.remote_problems(asked, records, labelling.template(asked), region)
    except ComponentError as error:
        remote = [str(error)]
    yield from (_with_parameter(wanted, line) for line in remote)
    if not remote:
        yield from _over(asked.job_name, wanted.labelling_attempt)


def _over(name: str, attempt: int) -> Iterator[str]:
    """A labelling job that ended without a result: its name cannot be used again."""
    try:
        found = aws.client("sagemaker").describe_labeling_job(LabelingJobName=name)
    except ClientError as error:
        if aws.transient(error):
            raise
        if aws.code(error) not in {"ResourceNotFound", "ResourceNotFoundException"}:
            yield f"labelling_job: {name}: {aws.message(error)}"
        return
    if found["LabelingJobStatus"] in {"Stopping", "Stopped", "Failed"}:
        why = f" ({found['FailureReason']})" if found.get("FailureReason") else ""
        yield (
            f"labelling_attempt is {attempt}, and its labelling job {name} is {found['LabelingJobStatus']}{why} and cannot go "
            f"on; labelling_attempt={attempt + 1} asks people again"
        )


def _with_parameter(wanted: Parameters, problem: str) -> str:
    if problem.startswith("work"):
        return f"workteam_arn: {problem}"
    outside = s3.parse(wanted.output_uri)[0]
    named = re.search(r"bucket '([^']+)'|s3://([^/\s:]+)", problem)
    bucket = (named[1] or named[2]) if named else ""
    is_output = bucket == outside and bucket != s3.parse(wanted.manifest_uri)[0]
    return f"{'output_uri' if is_output else 'manifest_uri'}: {problem}"


def _data(wanted: Parameters) -> Iterator[str]:
    fractions = "validation_fraction, test_fraction"
    yield from _named(fractions, lambda: check_fractions(wanted.validation_fraction, wanted.test_fraction))
    for name in ("validation_fraction", "test_fraction"):
        if getattr(wanted, name) == 0:
            yield f"{name} is 0; the training needs validation samples, the evaluation test samples"
    yield from _named("preprocess", lambda: images.function(wanted.preprocess, max(1, wanted.image_size)))


def _worker_resources(wanted: Parameters) -> dict[str, Any]:
    """An instance type gives a worker the whole node; what is asked for explicitly wins over it."""
    return dict(wanted.worker_resources) or ({} if wanted.instance_type else WORKER)


def _training(wanted: Parameters) -> Iterator[str]:
    found = list(volumes.problems(wanted.volume, wanted.volume_name))
    yield from found
    try:
        kube = Kube(wanted.namespace)
        for kind in (runs.TRAINING_JOB, runs.LUSTRE_VOLUME):
            if not kube.knows(runs.PENSTOCK, kind):
                yield f"namespace: its cluster does not know {kind} ({runs.PENSTOCK}); install penstock"
                return
        run_uri = runs.folder(wanted.output_uri, wanted.run or wanted.job_id)
        if wanted.workers > 0 and (words := preflight.refusal(kube, _job(wanted, run_uri))):
            yield f"{'instance_type, ' if wanted.instance_type else ''}worker_resources: {words}"
        if not found:
            yield from _volume(wanted, kube, run_uri)
    except ComponentError as error:
        yield f"namespace: {error}"


def _volume(wanted: Parameters, kube: Kube, run_uri: str) -> Iterator[str]:
    """The volume as the run would make it, or the one that is there."""
    dataset, model = s3.join(run_uri, "dataset"), s3.join(run_uri, "model")
    if wanted.volume_name:
        yield from _named("volume_name", lambda: volumes.places(volumes.existing(kube, wanted.volume_name), dataset, model))
        return
    wish = volumes.build(run_uri, dataset, model, wanted.volume)
    if wanted.output_uri.startswith("s3://") and (words := kube.refusal(wish)):
        yield f"{'output_uri' if 'spec.repositories' in words else 'volume'}: {words}"


def _job(wanted: Parameters, run_uri: str) -> Object:
    """What of the TrainingJob is known before there is data."""
    asked = training.Training(
        model_uri=s3.join(run_uri, "model"),
        image=wanted.trainer_image,
        command=["python"],
        workers=wanted.workers,
        instance_type=wanted.instance_type,
        resources=_worker_resources(wanted),
        run_id=run_uri,
    )
    return training.build(asked)


def _later(wanted: Parameters) -> Iterator[str]:
    """What the last steps read."""
    if wanted.baseline_uri:
        yield from _named("baseline_uri", lambda: inputs.check_baseline(wanted.baseline_uri))
    if wanted.new_data_uri:
        yield from _named("new_data_uri", lambda: inputs.check_shards(wanted.new_data_uri))


def _serving(wanted: Parameters) -> Iterator[str]:
    asked = serving.Serving(name=wanted.endpoint, model_uri="s3://b/m", image="i", replicas=wanted.replicas)
    try:
        serving.check(asked)
    except ComponentError as error:
        # Its first line counts the problems, the others begin with the names of its own inputs.
        yield from (re.sub(r"^name ", "endpoint ", line.strip()) for line in str(error).splitlines()[1:])
    if wanted.serving_service_account:
        yield from _account(wanted)


def _account(wanted: Parameters) -> Iterator[str]:
    try:
        kube = Kube(wanted.namespace)
        if kube.get("v1", "ServiceAccount", wanted.serving_service_account) is None:
            yield f"serving_service_account: there is no ServiceAccount {kube.namespace}/{wanted.serving_service_account}"
    except Refused as error:
        if error.status != 403:
            raise
        log.warning("serving_service_account is not checked: %s", error)
    except ComponentError:
        return  # no way into the cluster; told as namespace


def _named(name: str, check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except ComponentError as error:
        yield f"{name}: {error}"
