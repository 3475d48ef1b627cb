"""What a training stands on: when its file system is made, and when not; the operator's part is played."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.components.played import Played
from tests.pipelines.player import API, Player, objects

from penstock_components import adoption, aws, s3
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object
from penstock_pipelines.training_ground import ground, volume


def prepare(parameters: dict[str, Any]) -> ground.Ground:
    run_uri = s3.join(parameters["output_uri"], "first")
    return ground.prepare(
        run_uri=run_uri,
        dataset_uri=f"{run_uri}/dataset",
        model_uri=f"{run_uri}/model",
        volume=parameters["volume"],
        volume_name="",
        model_name="m",
        epochs=1,
        batch_size=1,
        learning_rate=0.1,
        namespace=parameters["namespace"],
        volume_minutes=1.0,
        poll_seconds=0.1,
    )


def test_the_models_folder_is_made_writable_before_the_volume_that_links_it(
    player: Player, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, key = s3.parse(s3.join(parameters["output_uri"], "first", "model", ""))
    found: list[dict[str, str]] = []
    create = Kube.create

    def noted(kube: Kube, body: Object) -> Object:
        if body["kind"] == "LustreVolume":
            found.append(aws.client("s3").head_object(Bucket=bucket, Key=key)["Metadata"])
        return create(kube, body)

    monkeypatch.setattr(Kube, "create", noted)
    prepare(parameters)
    assert found == [{"file-owner": "1000", "file-group": "1000", "file-permissions": "0040775"}]


def test_two_runs_on_one_file_system_have_folders_of_their_own() -> None:
    folders = []
    for run in ("first", "second"):
        uris = [f"s3://bucket/{run}/{part}" for part in ("dataset", "model")]
        wish = volume.build(f"s3://bucket/{run}", *uris, {"fileSystemId": "fs-0123456789abcdef0"})
        paths = volume.places(wish, *uris)
        assert paths == [f"/{wish['metadata']['name']}/{part}" for part in ("dataset", "model")]
        folders += paths
    assert len(set(folders)) == 4


def test_a_model_whose_job_is_gone_needs_no_file_system(cluster: Played, parameters: dict[str, Any], player: Player) -> None:
    model_uri = s3.join(parameters["output_uri"], "first", "model")
    s3.write(f"{model_uri}/model.json", json.dumps({"model": "model.pt2", "bytes": 4}).encode())
    s3.write(f"{model_uri}/model.pt2", b"real")
    made = prepare(parameters)
    assert objects(cluster, f"{API}/lustrevolumes") == []
    s3.write(f"{model_uri}/model.pt2", b"half a model")
    assert prepare(parameters) == made
    assert [each["metadata"]["name"] for each in objects(cluster, f"{API}/lustrevolumes")] == [made.volume_name]


def test_a_volume_that_is_going_is_waited_for_as_long_as_a_file_system_takes(
    cluster: Played, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert volume.GONE > 10 * adoption.GONE_SECONDS
    monkeypatch.setattr(volume, "GONE", 1.0)
    run_uri = s3.join(parameters["output_uri"], "first")
    wish = volume.build(run_uri, f"{run_uri}/dataset", f"{run_uri}/model", parameters["volume"])
    wish["metadata"]["finalizers"] = ["penstock.dev/close"]
    kube = Kube(cluster.namespace)
    name = kube.create(wish)["metadata"]["name"]
    kube.delete(wish["apiVersion"], wish["kind"], name)
    with pytest.raises(ComponentError, match=r"is being deleted and not gone after 1 s; finalizers left: penstock.dev/close"):
        prepare(parameters)
    cluster.call("PATCH", f"{API}/lustrevolumes/{name}", {"metadata": {"finalizers": None}})
