"""Where a model comes from, and what is told when it is not what it should be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.serving import models
from tests.serving.conftest import Start, s3
from torch.export import Dim

from penstock_serving.model import ModelError, load

BODY = {"instances": [[1, 2, 3, 4]]}


def loaded(uri: str | Path, max_bytes: int = 1 << 24) -> object:
    return load(str(uri), max_bytes=max_bytes, warm_up_rows=2, threads=1)


@pytest.mark.parametrize(
    "form", ["{folder}", "{folder}/", "file://{folder}", "{folder}/model.pt2", "file://{folder}/model.pt2"]
)
def test_a_model_is_read_from_a_folder_or_a_file(form: str, iris: Path) -> None:
    assert loaded(form.format(folder=iris)).classes == tuple(models.CLASSES)  # type: ignore[attr-defined]


def test_a_model_is_served_from_s3(iris: Path, bucket: str, start: Start) -> None:
    for name in ("model.pt2", "model.json"):
        s3().upload_file(str(iris / name), bucket, f"models/1/{name}")
    server = start(f"s3://{bucket}/models/1").ready()
    assert server.post("/v1/models/m:predict", BODY).status == 200
    assert f"s3://{bucket}/models/1/model.pt2" in server.log()


def test_what_is_missing_is_named(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"s3://{bucket}/none/model\.json: not there"):
        loaded(f"s3://{bucket}/none")
    with pytest.raises(ModelError, match=r"s3://no-such-bucket-here/m\.pt2: "):
        loaded("s3://no-such-bucket-here/m.pt2")
    with pytest.raises(ModelError, match=rf"{tmp_path}/model\.json: No such file or directory"):
        loaded(tmp_path)
    with pytest.raises(ModelError, match=r"https://a/b/model\.json: expected s3://, file:// or a path"):
        loaded("https://a/b")


def test_a_file_that_is_not_the_registered_one_is_refused(iris: Path, tmp_path: Path, start: Start) -> None:
    folder = Path(shutil.copytree(iris, tmp_path / "copy"))
    data = bytearray((folder / "model.pt2").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.pt2").write_bytes(data)
    log = start(folder).fails()
    assert "model.pt2: SHA-256 " in log
    assert "not the file that was registered" in log
    (folder / "model.pt2").write_bytes(data + b"\0")
    with pytest.raises(ModelError, match=r"model\.pt2: \d+ bytes, but model.json says \d+: not the file that was registered"):
        loaded(folder)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "model.json: is not JSON"),
        ("[]", r"no model \(str\); expected model, bytes and sha256"),
        ('{"model": "model.pt2", "bytes": 1}', r"no sha256 \(str\)"),
        ('{"model": "../model.pt2", "bytes": 1, "sha256": ""}', "expected the name of a file beside it"),
    ],
)
def test_a_wrong_model_json_is_told(said: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(said)
    with pytest.raises(ModelError, match=message):
        loaded(tmp_path)


def test_a_file_over_the_limit_is_not_even_fetched(iris: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.pt2: \d+ bytes; at most 1000 are loaded \(PENSTOCK_MODEL_MAX_MIB\)"):
        loaded(iris, max_bytes=1000)


def test_what_is_no_model_at_all_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_text("<html>")
    with pytest.raises(ModelError, match=f"{path}: no zip archive; expected an archive of torch.export.save"):
        loaded(path)


def test_a_model_with_a_fixed_batch_is_refused_even_where_it_would_run(tmp_path: Path) -> None:
    path = models.save(tmp_path / "model.pt2", models.Picky(), [3], "int64", batch=None)
    with pytest.raises(ModelError, match="exported for batches of 2 only"):
        loaded(path)


def test_a_batch_beyond_the_exported_range_is_refused(tmp_path: Path) -> None:
    path = models.save(tmp_path / "model.pt2", models.Iris(), [4], batch=Dim("batch", max=3))
    assert load(str(path), max_bytes=1 << 24, warm_up_rows=3, threads=1)
    with pytest.raises(ModelError, match=r"exported for at most 3 rows; lower PENSTOCK_BATCH_MAX_ROWS \(4\)"):
        load(str(path), max_bytes=1 << 24, warm_up_rows=4, threads=1)


def test_a_batch_below_the_exported_range_is_filled_up(tmp_path: Path) -> None:
    # torch's own default begins at two rows; this model tells how many it got.
    path = models.save(tmp_path / "model.pt2", models.Count(), [1], batch=Dim.DYNAMIC)
    model = load(str(path), max_bytes=1 << 24, warm_up_rows=8, threads=1)
    assert model.run(np.zeros((1, 1), np.float32)).tolist() == [[2]]
    assert model.run(np.zeros((3, 1), np.float32)).tolist() == [[3]] * 3


@pytest.mark.parametrize(
    ("information", "message"),
    [
        ({}, "penstock.json: no 'name'"),
        (
            {"name": "m", "classes": [], "input": {"name": "x", "shape": [-1, 4], "dtype": "complex64"}},
            "dtype 'complex64' is not served",
        ),
        (
            {"name": "m", "classes": [], "input": {"name": "x", "shape": [2, 4], "dtype": "float32"}},
            "a shape of -1 for the batch",
        ),
        (
            {"name": "m", "classes": [], "input": {"name": "x", "shape": [-1, -1], "dtype": "float32"}},
            "a shape of -1 for the batch",
        ),
        (
            {"name": "m", "classes": [], "input": {"name": "x", "shape": [-1, 5], "dtype": "float32"}},
            r"exported for \[s\d+, 4\] of float32, but penstock.json says",
        ),
        (
            {"name": "m", "classes": ["a"], "input": {"name": "x", "shape": [-1, 4], "dtype": "float32"}},
            "1 classes, but the output's",
        ),
    ],
)
def test_a_penstock_json_that_does_not_fit_the_model_is_told(
    information: object, message: str, iris: Path, tmp_path: Path
) -> None:
    def change(entries: dict[str, bytes]) -> None:
        entries["extra/penstock.json"] = json.dumps(information).encode()

    with pytest.raises(ModelError, match=message):
        loaded(models.changed(iris / "model.pt2", tmp_path / "model.pt2", change))
