"""Real exported models, one server for all tests that only ask, and a fake S3."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.serving import models
from tests.serving.server import Server

from penstock_serving import storage

Start = Callable[..., Server]


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder: model.pt2 and model.json."""
    path = models.save(tmp_path_factory.mktemp("iris") / "model.pt2", models.Iris(), [4], classes=models.CLASSES)
    return models.register(path)


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes a good part of a second, however few rows it gets."""
    return models.save(tmp_path_factory.mktemp("slow") / "model.pt2", models.Slow(30), [2])


@pytest.fixture(scope="session")
def server(iris: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"), str(iris), PENSTOCK_REQUEST_MAX_MIB="1")
    try:
        yield started.ready()
    finally:
        started.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers that end with the test."""
    started: list[Server] = []

    def begin(uri: str | Path, **settings: str) -> Server:
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        started.append(Server(folder, str(uri), **settings))
        return started[-1]

    yield begin
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def fake_s3() -> Iterator[str]:
    fake = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    fake.start()
    host, port = fake.get_host_and_port()
    yield f"http://{host}:{port}"
    fake.stop()


@pytest.fixture
def bucket(fake_s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new bucket; this process and those it starts reach it by the environment."""
    variables = {"AWS_ENDPOINT_URL": fake_s3, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    storage._client.cache_clear()
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3().create_bucket(Bucket=name)
    yield name
    storage._client.cache_clear()


def s3() -> Any:
    return boto3.client("s3")
