"""The trained model in S3: waited for, since FSx exports what the job wrote some time after it was written.

`model.json` names the model file and its size and is written last. It must be younger than the job: a folder that was trained
into before holds an older one, whole and wrong. Where it tells the attempt that wrote it (PENSTOCK_ATTEMPT) that must be the
one that succeeded: an earlier one may have left a model too, and a file that is removed on FSx stays in S3.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from penstock_components import aws, s3, waiting
from penstock_components.errors import ComponentError

# Two clocks, S3's and the API server's.
_SKEW: Final = timedelta(seconds=60)


class Exported(NamedTuple):
    """The model as `model.json` describes it."""

    uri: str
    bytes: int
    sha256: str
    metrics: dict[str, float]


class Looked(NamedTuple):
    """What is in S3 in words, and the model if it is whole."""

    words: str
    model: Exported | None = None


def wait(model_uri: str, since: datetime, seconds: float, attempt: int | None = None, every: float = 5.0) -> Exported:
    """Wait until the model is whole in S3 under `model_uri`.

    Raises:
        ComponentError: not within `seconds`; tells what is there.
    """
    try:
        return _there(
            waiting.poll(
                lambda: look(model_uri, since, attempt),
                until=lambda looked: looked.model is not None,
                every=every,
                deadline=seconds,
                describe_state=lambda looked: looked.words,
                forgive=aws.patience,
            )
        )
    except waiting.Overdue as error:
        raise ComponentError(
            f"the job is complete, but its model did not come to {model_uri}: {error}; does the program write it there, and is "
            "the folder linked to S3 with automatic export? A new run of this step waits again"
        ) from error


def look(model_uri: str, since: datetime | None = None, attempt: int | None = None) -> Looked:
    """What is there now; `since` is when the job was made, `attempt` the one that succeeded. Without them any model is one."""
    about_uri = s3.join(model_uri, "model.json")
    if not s3.exists(about_uri):
        return Looked(f"{about_uri} is not there yet")
    bucket, key = s3.parse(about_uri)
    written: datetime = aws.client("s3").head_object(Bucket=bucket, Key=key)["LastModified"]
    if since is not None and written < since - _SKEW:
        return Looked(f"{about_uri} is older than the job ({written:%Y-%m-%d %H:%M:%S} UTC)")
    try:
        about = json.loads(s3.read(about_uri))
        name, size, metrics = str(about["model"]), int(about["bytes"]), _numbers(about.get("metrics") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Looked(f"{about_uri} is no description of a model ({error!r}); expected model, bytes, sha256, metrics")
    wrote = about.get("attempt")
    if attempt is not None and wrote is not None and wrote != attempt:
        return Looked(f"{about_uri} is of attempt {wrote}, and attempt {attempt} is the one that succeeded")
    uri = s3.join(model_uri, name)
    found = s3.find(uri)
    if found is None or found.size != size:
        have = "not there yet" if found is None else f"{found.size} bytes"
        return Looked(f"{uri} is {have}, expected {size} bytes")
    return Looked(f"{uri} is there, {size} bytes", Exported(model_uri, size, str(about.get("sha256", "")), metrics))


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def _there(looked: Looked) -> Exported:
    assert looked.model is not None
    return looked.model
