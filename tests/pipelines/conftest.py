"""A real API server with the operator's CRDs, the fake AWS, and someone who plays operator, nodes and training."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kfp.local.orchestrator import task_executor
from tests.components.api_server import cluster, kubelet, plane
from tests.components.conftest import aws, bucket, fake_aws, kfp_local, no_backoff, upload
from tests.components.labelling_jobs import CLASSES, FAST, ROLE, team
from tests.components.played import Kubelet, Played
from tests.pipelines.player import KINDS, Player
from tests.pipelines.prepared import prepared_steps, step_server

from penstock_components import manifest, s3
from penstock_components.labelling.ground_truth_labelling import request
from penstock_local.aws import FakeAWS

__all__ = [
    "aws",
    "bucket",
    "cluster",
    "fake_aws",
    "kfp_local",
    "kubelet",
    "no_backoff",
    "plane",
    "prepared_steps",
    "step_server",
    "team",
]


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """kfp's local runner tries again at once."""
    monkeypatch.setattr(task_executor, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture(scope="session")
def pictures(fake_aws: FakeAWS) -> list[dict[str, Any]]:
    """Manifest lines of 30 images, in a bucket that no test writes to."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in fake_aws.environment().items():
            environment.setenv(name, value)
        fake_aws.client("s3").create_bucket(Bucket="pictures")
        return upload("s3://pictures", 30)


@pytest.fixture
def parameters(
    cluster: Played, aws: FakeAWS, bucket: str, team: str, pictures: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Good parameters for 30 images of three classes, and a team of three who are always right."""
    aws.control.configure(FAST)
    aws.control.forget_calls()
    to_label(aws, s3.join(bucket, "input.manifest"), pictures, team)
    yield {
        "manifest_uri": s3.join(bucket, "input.manifest"),
        "output_uri": s3.join(bucket, "out"),
        "label_attribute": "animal",
        "label_categories": CLASSES,
        "role_arn": ROLE,
        "workteam_arn": team,
        "endpoint": "animals",
        "volume": {"create": {"subnetId": "subnet-0123456789abcdef0"}},
        "image_size": 8,
        "run": "first",
        "namespace": cluster.namespace,
        "poll_seconds": 0.1,
    }
    aws.control.clear_faults()
    aws.control.configure(FAST)


@pytest.fixture
def player(cluster: Played, kubelet: Kubelet) -> Iterator[Player]:
    """Plays until the test is over."""
    playing = Player(kubelet.name)
    with cluster.answered(playing, *KINDS):
        yield playing


def to_label(aws: FakeAWS, manifest_uri: str, lines: list[dict[str, Any]], team: str) -> None:
    """A manifest of these lines, of three classes in turn, which the team knows."""
    manifest.write(manifest_uri, lines)
    workers = [{"id": worker, "accuracy": 1.0} for worker in ("ann", "bob", "cid")]
    truth = {line[manifest.SOURCE]: place % 3 for place, line in enumerate(lines)}
    aws.control.workers(team.rpartition("/")[2], workers, truth=truth)


def label(parameters: dict[str, Any], aws: FakeAWS, name: str) -> None:
    """A labelling job that is under way."""
    keys = ("manifest_uri", "label_attribute", "label_categories", "role_arn", "workteam_arn")
    wanted = request.Labelling(
        output_uri=parameters["output_uri"], title="t", description="d", **{k: parameters[k] for k in keys}
    )
    uris = [s3.join(parameters["output_uri"], file) for file in ("t.html", "c.json")]
    s3.write(uris[0], request.template(wanted))
    s3.write(uris[1], request.categories(wanted.label_categories))
    aws.client("sagemaker").create_labeling_job(**request.create(wanted, name, "0", uris[0], uris[1], "us-east-1"))
