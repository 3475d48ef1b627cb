"""The fake AWS for the whole session, a bucket and the environment for each test, and kfp's local runner."""

from __future__ import annotations

import builtins
import dataclasses
import hashlib
import inspect
import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import numpy as np
import pytest
from kfp import local
from PIL import Image

from penstock_components import manifest, s3
from penstock_local.aws import FakeAWS

# The tries of one call to AWS (aws.client): as many faults, and it fails.
CALL = 7
COMPONENTS = Path(__file__).parents[2] / "components" / "penstock_components"


@pytest.fixture(scope="session")
def fake_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAWS]:
    with FakeAWS(tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.fixture
def aws(fake_aws: FakeAWS, monkeypatch: pytest.MonkeyPatch) -> FakeAWS:
    """The fake AWS, with the environment that leads boto3 to it."""
    for name, value in fake_aws.environment().items():
        monkeypatch.setenv(name, value)
    return fake_aws


@pytest.fixture
def bucket(aws: FakeAWS, request: pytest.FixtureRequest) -> str:
    """A new bucket, `s3://<name>`: the test's own, and the same in each run. Workers err by the names of what they look at."""
    name = f"test-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    aws.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on they come from a Pod Identity agent that does not answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/v1/credentials")  # the discard port


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 tries again at once."""
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def kfp_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """kfp's local runner in this process's environment; yields the folder of its outputs."""
    printed = builtins.print
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))  # each step leaves its program in a folder of its own there
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"), raise_on_error=True)
    with warnings.catch_warnings():
        # kfp warns of every image without "python" in its name that it runs as a process.
        warnings.filterwarnings("ignore", message="You may be attemping to run a task that uses custom")
        yield tmp_path / "kfp"
    builtins.print = printed  # kfp leaves its own behind after a ParallelFor


def picture(seed: int, size: int = 24) -> bytes:
    """A small PNG of noise; equal seeds give equal bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def upload(bucket: str, count: int, first: int = 0) -> list[dict[str, Any]]:
    """`count` different images in `bucket`/images; returns their manifest lines."""
    lines = []
    for number in range(first, first + count):
        uri = s3.join(bucket, "images", f"{number:04}.png")
        s3.write(uri, picture(number), "image/png")
        lines.append({manifest.SOURCE: uri})
    return lines


def example(folder: str) -> Callable[..., Any]:
    """The pipeline `example` of the Python block in a component's README."""
    readme = COMPONENTS / folder / "README.md"
    block = re.search(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    assert block is not None, f"{readme} has no Python example"
    namespace: dict[str, Any] = {}
    # kfp reads annotations as objects: this file's `from __future__ import annotations` must not reach the block.
    exec(compile(block[1], str(readme), "exec", dont_inherit=True), namespace)
    pipeline: Callable[..., Any] = namespace["example"]
    return pipeline


def kfp_inputs(component: Any, function: Callable[..., Any]) -> None:
    """A component's inputs and their defaults are those of the function behind it."""
    declared = {
        name: value.default
        for name, value in inspect.signature(component.python_func).parameters.items()
        if not str(value.annotation).startswith("typing.Annotated")
    }
    behind = {name: value.default for name, value in inspect.signature(function).parameters.items()}

    def comparable(defaults: dict[str, Any]) -> dict[str, Any]:
        return {name: [] if value in ((), dataclasses._HAS_DEFAULT_FACTORY) else value for name, value in defaults.items()}

    assert comparable(declared) == comparable(behind)
