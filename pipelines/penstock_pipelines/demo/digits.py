"""What the demo starts from: scikit-learn's digits as PNGs in a bucket, a work team who mislabel them, and a held-out part.

Four fifths are labelled by the team and used for everything the pipeline does. The last fifth no worker and no step of the
training sees; its true classes judge the model in the end. All of it is idempotent.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from botocore.exceptions import ClientError
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from penstock_components import aws, manifest, s3
from penstock_components.data.split_and_preprocess import images, shards
from penstock_components.labelling.consolidate_labels import responses
from penstock_components.labelling.consolidate_labels.dawid_skene import dawid_skene, majority
from penstock_local.aws.client import Control

BUCKET: Final = "penstock-demo"
ROOT: Final = f"s3://{BUCKET}"
TEAM: Final = "digit-readers"
CLASSES: Final = [str(digit) for digit in range(10)]
PIXELS: Final = 16
# Right with 70, 80 and 90 %; wrong evenly.
WORKERS: Final = [{"id": "ann", "accuracy": 0.7}, {"id": "bob", "accuracy": 0.8}, {"id": "cleo", "accuracy": 0.9}]


class Held(NamedTuple):
    """The held-out part: where its shards are, and by key the array (3, PIXELS, PIXELS) and the true class."""

    uri: str
    arrays: dict[str, images.Array]
    truth: dict[str, int]


class Ready(NamedTuple):
    """What the pipeline is given, and the truth it is judged by."""

    manifest_uri: str
    workteam_arn: str
    truth: dict[str, int]  # of the labelled part, by object
    held: Held


def prepare(control: Control) -> Ready:
    """Bucket, images, manifest, work team, held-out shards. Needs AWS by the environment; `control` makes the team noisy."""
    _bucket()
    all_of_them = load_digits()
    pictures = [_png(pixels) for pixels in all_of_them.images]
    labels = [int(label) for label in all_of_them.target]
    labelled, held = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    uris = {place: f"{ROOT}/images/{place:04}.png" for place in sorted(labelled)}
    manifest_uri = f"{ROOT}/digits.manifest"
    if not s3.exists(manifest_uri):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: s3.write(item[1], pictures[item[0]], "image/png"), uris.items()))
        manifest.write(manifest_uri, [{"source-ref": uri} for uri in uris.values()])
    truth = {uri: labels[place] for place, uri in uris.items()}
    arn = _team()
    control.workers(TEAM, WORKERS, truth=truth)
    # A second for a hundred objects: people take longer, and the road is to be seen in minutes.
    control.configure({"labelling": {"secondsPerObject": 0.01}})
    return Ready(manifest_uri, arn, truth, _held(pictures, labels, sorted(held)))


class Labels(NamedTuple):
    """Share of the labelled digits whose label is right."""

    majority: float  # where classes share the most votes, each counts by chance
    dawid_skene: float


def labels(ready: Ready, worker_responses_uri: str) -> Labels:
    """How good the team's labels are, by majority vote and as `consolidate_labels` makes them of the same answers."""
    records = manifest.read(ready.manifest_uri)
    answers = responses.read(worker_responses_uri, records, CLASSES).answers
    true = np.array([ready.truth[record.fields["source-ref"]] for record in records])
    votes = majority(answers)
    most = votes == votes.max(1, keepdims=True)
    by_vote = (most / most.sum(1, keepdims=True))[np.arange(len(true)), true].mean()
    return Labels(float(by_vote), float((dawid_skene(answers).posterior.argmax(1) == true).mean()))


def _bucket() -> None:
    try:
        aws.client("s3").create_bucket(Bucket=BUCKET)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
            raise


def _png(pixels: Any) -> bytes:
    """An 8 x 8 digit of 0 to 16 as a grey PNG of 32 x 32."""
    grey = Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    grey.save(file, "PNG")
    return file.getvalue()


def _team() -> str:
    sagemaker = aws.client("sagemaker")
    found = sagemaker.list_workteams(NameContains=TEAM)["Workteams"]
    if found:
        return str(found[0]["WorkteamArn"])
    member = {"CognitoMemberDefinition": {"UserPool": "us-east-1_Digits", "UserGroup": "readers", "ClientId": "demo"}}
    made = sagemaker.create_workteam(WorkteamName=TEAM, Description="read digits", MemberDefinitions=[member])
    return str(made["WorkteamArn"])


def _held(pictures: list[bytes], labels: list[int], places: list[int]) -> Held:
    uri = f"{ROOT}/held-out"
    prepare = images.function("", PIXELS)

    def examples() -> Iterator[shards.Example]:
        for place in places:
            yield shards.Example(f"{place:04}", prepare(Image.open(io.BytesIO(pictures[place])), {}), labels[place])

    made = list(examples())
    shards.write(uri, made, 64 * 1024 * 1024, None)
    return Held(uri, {each.key: each.array for each in made}, {each.key: each.label for each in made})


def accuracy(predictions_uri: str, held: Held) -> float:
    """Share of the held-out digits whose most probable class is the true one.

    Raises:
        ValueError: a held-out digit has no prediction, or there is one of something else.
    """
    lines = [json.loads(line) for line in s3.read(predictions_uri).splitlines()]
    predicted = {line["key"]: int(np.argmax(line["probabilities"])) for line in lines}
    if predicted.keys() != held.truth.keys():
        raise ValueError(f"{predictions_uri} tells of {len(predicted)} samples; held out are {len(held.truth)}")
    return sum(predicted[key] == label for key, label in held.truth.items()) / len(held.truth)
