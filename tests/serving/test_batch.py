"""Batch prediction: shards in, one JSON line a sample out, all of it or nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.serving import models
from tests.serving.conftest import s3
from tests.serving.server import until

from penstock_serving import storage
from penstock_serving.batch import main, predict
from penstock_serving.model import Model, ModelError, load
from penstock_serving.shards import SampleError

Members = list[tuple[str, bytes]]
Ended = Callable[..., tuple[int, str]]


def npy(row: object, dtype: str = "float32") -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(row, dtype), allow_pickle=True)
    return stream.getvalue()


def shard(members: Members) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def sample(key: str, row: list[float], label: int | None = None) -> Members:
    return [(f"{key}.npy", npy(row)), *([(f"{key}.cls", str(label).encode())] if label is not None else [])]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock_serving.batch", *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120)


@cache
def loaded(folder: Path) -> Model:
    return load(str(folder), max_bytes=1 << 24, warm_up_rows=2, threads=1)


def rows(count: int) -> list[list[float]]:
    return np.random.default_rng(5).normal(size=(count, 4)).round(3).tolist()


def test_every_sample_of_every_shard_is_predicted_in_order(iris: Path, bucket: str) -> None:
    given = rows(9)
    first = [member for number in range(5) for member in sample(f"a{number}", given[number], number % 3)]
    second = [member for number in range(5, 9) for member in sample(f"b{number}", given[number])]
    for name, members in (("shard-00001", second), ("shard-00000", first)):
        s3().put_object(Bucket=bucket, Key=f"data/test/{name}.tar", Body=shard(members))
    s3().put_object(Bucket=bucket, Key="data/test/notes.txt", Body=b"not a shard")
    for name in ("model.pt2", "model.json"):
        s3().upload_file(str(iris / name), bucket, f"model/{name}")
    ended = run(
        *["--model", f"s3://{bucket}/model", "--input", f"s3://{bucket}/data/test/"],
        *["--output", f"s3://{bucket}/out/", "--batch-rows", 4],
    )
    assert ended.returncode == 0, ended.stderr
    assert "9 samples of 2 shards" in ended.stdout
    lines = s3().get_object(Bucket=bucket, Key="out/predictions.jsonl")["Body"].read().splitlines()
    found = [json.loads(line) for line in lines]
    assert [list(each) for each in found] == [["key", "label", "probabilities"]] * 9
    assert [each["key"] for each in found] == [f"{'a' if number < 5 else 'b'}{number}" for number in range(9)]
    assert [each["label"] for each in found] == [0, 1, 2, 0, 1, None, None, None, None]
    with torch.no_grad():
        expected = torch.softmax(models.Iris().eval()(torch.tensor(given)), 1)
    torch.testing.assert_close(torch.tensor([each["probabilities"] for each in found]), expected, rtol=1e-5, atol=1e-6)


def test_folders_and_files_are_taken_too(iris: Path, tmp_path: Path, ended: Ended) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "shard-00000.tar").write_bytes(shard(sample("x/y", [1, 2, 3, 4], 2)))
    code, told = ended("--model", iris / "model.pt2", "--input", folder, "--output", f"file://{tmp_path}/deep/out.jsonl")
    assert code == 0, told
    line = json.loads((tmp_path / "deep/out.jsonl").read_text())
    assert (line["key"], line["label"]) == ("x/y", 2)
    assert sum(line["probabilities"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("k.cls", b"1")], "sample 'k': no k.npy; found cls"),
        ([("k.npy", b"junk")], "sample 'k': k.npy cannot be read"),
        ([("k.npy", npy([1, 2, 3]))], "sample 'k': the model expects shape [4] of float32, found [3] of float32"),
        ([("k.npy", npy([1, 2, 3, 4], "float64"))], "expects shape [4] of float32, found [4] of float64"),
        ([("k.npy", npy([None] * 4, "object"))], "sample 'k': k.npy cannot be read: Object arrays cannot be loaded"),
        ([("k.npy", npy([1, 2, 3, 4])), ("k.cls", b"cat")], "sample 'k': k.cls: expected a class index, found b'cat'"),
        ([("k.npy", npy([1, 2, 3, 4])), ("k.npy", b"")], "sample 'k' has two members 'npy'"),
        ([("k.npy", npy([np.nan, 2, 3, 4]))], "sample 'k': the model's output is not finite"),
    ],
)
def test_a_broken_sample_ends_the_run_with_its_shard_and_key(
    members: Members, message: str, iris: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shard-00000.tar"
    path.write_bytes(shard([*sample("good", [1, 2, 3, 4], 1), *members]))
    with pytest.raises((SampleError, ModelError)) as told:
        predict(loaded(iris), [str(path)], str(tmp_path / "out.jsonl"), 1)
    assert message in str(told.value)
    assert isinstance(told.value, ModelError) or str(path) in str(told.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1024, 1400, 2048, 3000, 4096])
def test_a_cut_shard_is_not_taken_for_a_short_one(cut: int, iris: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard-00000.tar"
    path.write_bytes(shard([*sample("a", [1, 2, 3, 4], 1), *sample("b", [1, 2, 3, 4], 1)])[:cut])
    with pytest.raises(SampleError, match=r"shard-00000\.tar: a broken tar file"):
        predict(loaded(iris), [str(path)], str(tmp_path / "out.jsonl"), 1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_sample_is_one_line_and_an_exit_code_that_means_so(iris: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard-00000.tar"
    path.write_bytes(shard([("k.npy", b"junk")]))
    ended = run("--model", iris, "--input", path, "--output", tmp_path / "out")
    assert ended.returncode == os.EX_DATAERR
    assert [line for line in ended.stderr.splitlines() if "penstock" in line] == ended.stderr.splitlines()[-1:]
    assert f"penstock-batch: {path}: sample 'k': k.npy cannot be read" in ended.stderr


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ended]:
    """Runs `main` in this process, which has torch loaded already; returns exit code and standard error."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["batch", *map(str, arguments), "--threads", "1"])
        code: object = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        assert isinstance(code, int)
        return code, capsys.readouterr().err

    yield run
    signal.signal(signal.SIGTERM, before)


def test_no_shards_is_an_error(iris: Path, bucket: str, tmp_path: Path, ended: Ended) -> None:
    for shards, words in ((f"s3://{bucket}/x", "no .tar shards there"), (tmp_path / "none", "no such folder")):
        code, told = ended("--model", iris, "--input", shards, "--output", tmp_path)
        assert (code, words in told) == (os.EX_DATAERR, True), told


def test_what_another_try_may_mend_has_another_exit_code(
    iris: Path, bucket: str, tmp_path: Path, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "shard-00000.tar"
    shards.write_bytes(shard(sample("a", [1, 2, 3, 4])))
    code, told = ended("--model", f"s3://{bucket}/none", "--input", shards, "--output", tmp_path)
    assert (code, "not there" in told) == (os.EX_DATAERR, True), told
    assert ended("--model", iris)[0] == 2
    monkeypatch.setattr(storage, "_client", cache(storage._client.__wrapped__))  # with the environment as it is now
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")  # nobody listens
    for model, given in ((iris, f"s3://{bucket}/new"), (f"s3://{bucket}/model", shards)):
        code, told = ended("--model", model, "--input", given, "--output", tmp_path)
        assert (code, "127.0.0.1:9" in told) == (1, True), told


def test_large_outputs_go_to_s3_in_parts_and_appear_at_the_end(bucket: str) -> None:
    line = b"x" * (1 << 20)
    with storage.written(f"s3://{bucket}/large") as file:
        for _ in range(40):
            file.write(line)
        assert not s3().list_objects_v2(Bucket=bucket).get("Contents")
    assert storage.size(f"s3://{bucket}/large") == 40 << 20
    assert "-" in s3().head_object(Bucket=bucket, Key="large")["ETag"]


def test_a_failed_upload_leaves_no_parts(bucket: str) -> None:
    def fail() -> None:
        with storage.written(f"s3://{bucket}/large") as file:
            file.write(b"x" * (20 << 20))
            assert s3().list_multipart_uploads(Bucket=bucket)["Uploads"]
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert not s3().list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_sigterm_leaves_nothing_behind(iris: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    pipe = tmp_path / "shard-00000.tar"
    # A shard that never ends: a pipe that nobody writes to any more.
    os.mkfifo(pipe)
    command = [
        sys.executable,
        "-m",
        "penstock_serving.batch",
        "--model",
        str(iris),
        "--input",
        str(pipe),
        "--output",
        str(folder),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process, pipe.open("wb") as writer:
        writer.write(shard(sample("a", [1, 2, 3, 4], 1))[:1024])
        writer.flush()
        until(lambda: folder.is_dir() and bool(list(folder.iterdir())), lambda: process.poll())
        # Sent again: a signal between Python's look for one and its read() waits for the read, which here never ends.
        for _ in range(6):
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
                break
        assert process.poll() == 143
    assert list(folder.iterdir()) == []
