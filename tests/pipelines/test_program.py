"""The training program as one process, in the environment that has torch, and its model in the program that will serve it.

Horovod is in the trainer's image only: two ranks train in the local cluster's tests.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from penstock_pipelines.training_ground import program

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-serving" / "bin" / "python"
PROGRAM = ROOT / "pipelines" / "penstock_pipelines" / "programs" / program.FILE

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no torch: make venv-serving")


def shard(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            array = io.BytesIO()
            np.save(array, image)
            for kind, data in (("npy", array.getvalue()), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{path.stem}-{number:05}.{kind}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def about(classes: list[str], **counts: int) -> dict[str, object]:
    """dataset.json, as split_and_preprocess writes it; all samples are told to be of the first class."""
    return {"classes": classes, "counts": {split: {classes[0]: count} for split, count in counts.items()}}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 of scikit-learn's handwritten digits: two shards to train on, one each to validate and to test."""
    folder = tmp_path_factory.mktemp("digits")
    found = load_digits()
    images, labels = (found.images[:, None] / 16).astype(np.float32), found.target
    for name, begin, end in (
        ("train/shard-0", 0, 200),
        ("train/shard-1", 200, 400),
        ("validation/s", 400, 500),
        ("test/s", 500, 600),
    ):
        shard(folder / f"{name}.tar", images[begin:end], labels[begin:end])
    (folder / "dataset.json").write_text(json.dumps(about([f"digit-{n}" for n in range(10)], train=400, validation=100)))
    return folder


def train(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, PROGRAM, f"--data={data}", f"--out={out}", "--alone", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def refused(*given: tuple[Path, list[str]], out: Path) -> list[str]:
    """Train on each data in turn, with its options, in one process: torch takes two seconds to import. What each was told."""
    code = f"""
import contextlib, io, json, sys; sys.path.insert(0, {str(PROGRAM.parent)!r})
import train_images
for arguments in {[[f"--data={data}", f"--out={out}", "--alone", *options] for data, options in given]!r}:
    sys.argv[1:] = arguments
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(sys.stderr):
        code = train_images.main()
    print(json.dumps([code, told.getvalue()]))
"""
    ended = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [code for code, _ in answers] == [2] * len(given), answers
    assert not out.exists()
    return [told for _, told in answers]


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a model after 8 epochs, and what the program printed."""
    out = tmp_path_factory.mktemp("trained") / "model"
    ended = train(digits, out, "--epochs=8", "--name=digits")
    assert ended.returncode == 0, ended.stderr
    return out, ended.stdout


def test_the_model_learns_and_tells_its_best_epoch(trained: tuple[Path, str]) -> None:
    out, printed = trained
    about = json.loads((out / "model.json").read_text())
    assert about["metrics"]["validation_accuracy"] >= 0.85
    best = min(about["history"], key=lambda each: each["validation_loss"])
    assert about["metrics"]["best_epoch"] == best["epoch"]
    assert [each["epoch"] for each in about["history"]] == list(range(1, 9))
    assert about["history"][-1]["loss"] < about["history"][0]["loss"] / 2
    assert about["bytes"] == (out / "model.pt2").stat().st_size
    assert "1 ranks, 400 training samples of (1, 8, 8)" in printed
    assert "epoch 8/8" in printed


def test_the_serving_image_predicts_with_it(trained: tuple[Path, str], digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions.jsonl"
    arguments = ["--model", trained[0], "--input", digits / "test", "--output", output, "--threads", "1"]
    subprocess.run([PYTHON, "-m", "penstock_serving.batch", *arguments], check=True, timeout=120)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 100
    assert np.mean([np.argmax(row["probabilities"]) == row["label"] for row in rows]) >= 0.8


def test_two_ranks_train_on_all_samples_once(digits: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(PROGRAM.parent)!r})
import torch, train_images as t
def ring(rank, size): return t.Ring(rank, size, torch.device("cpu"), lambda value: value, lambda model, optimizer: optimizer)
for count, batch, size in ((101, 8, 2), (7, 32, 2), (64, 8, 4)):
    found = [t.shares(count, batch, 3, 7, ring(rank, size)) for rank in range(size)]
    assert len({{len(batches) for batches in found}}) == 1, "ranks with more steps than others wait for ever"
    seen = torch.cat([each for batches in found for each in batches]).tolist()
    assert len(seen) == len(set(seen)) > count - size * batch, (count, seen)
first, second = (torch.cat(t.shares(100, 8, epoch, 7, ring(0, 1))).tolist() for epoch in (1, 2))
assert first != second
"""
    subprocess.run([PYTHON, "-c", code], check=True, timeout=60)


def test_data_that_cannot_be_used_is_named_and_leaves_no_model(digits: Path, tmp_path: Path) -> None:
    cases = [
        ({}, "dataset.json does not tell the classes"),
        ({"dataset.json": b'{"classes": ["a", "b"]}'}, "dataset.json does not tell the classes and the counts"),
        (
            {"dataset.json": json.dumps(about(["a", "b"], train=400, validation=9)).encode()},
            "train holds 0 samples in 0 shards, dataset.json tells 400",
        ),
        ({"train/shard-0.tar": (digits / "train" / "shard-0.tar").read_bytes()[:5000]}, "shard-0.tar"),
        ({"train/shard-0.tar": (digits / "train" / "shard-0.tar").read_bytes()}, "dataset.json tells 2 classes"),
    ]
    folders, there = [], {}
    for number, (files, _) in enumerate(cases):
        there |= files
        folders.append(tmp_path / f"data-{number}")
        (folders[-1] / "train").mkdir(parents=True)
        for name, content in there.items():
            (folders[-1] / name).write_bytes(content)
    answers = refused(*((folder, ["--wait-seconds=0"]) for folder in folders), out=tmp_path / "model")
    for (_, message), answer in zip(cases, answers, strict=True):
        assert message in answer


def copied(digits: Path, to: Path, *files: str) -> Path:
    for file in files:
        (to / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(digits / file, to / file)
    return to


def test_fewer_or_more_samples_than_were_counted_are_not_trained_on(digits: Path, tmp_path: Path) -> None:
    fewer = copied(digits, tmp_path / "fewer", "dataset.json", "train/shard-0.tar", "validation/s.tar")
    more = copied(digits, tmp_path / "more", "dataset.json", "train/shard-0.tar", "train/shard-1.tar", "validation/s.tar")
    shutil.copyfile(digits / "test" / "s.tar", more / "train" / "t.tar")
    told = refused((fewer, ["--wait-seconds=1"]), (more, []), out=tmp_path / "model")
    assert "train holds 200 samples in 1 shards, dataset.json tells 400" in told[0]
    assert "train holds 500 samples, dataset.json tells 400" in told[1]


def test_a_shard_that_comes_late_is_waited_for(digits: Path, tmp_path: Path) -> None:
    data = copied(digits, tmp_path / "data", "dataset.json", "train/shard-0.tar", "validation/s.tar")
    command = [PYTHON, "-u", PROGRAM, f"--data={data}", f"--out={tmp_path / 'model'}", "--alone", "--epochs=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "holds 200 of 400 samples, waiting" in process.stdout.readline()
        shutil.copyfile(digits / "train" / "shard-1.tar", tmp_path / "late")
        (tmp_path / "late").rename(data / "train" / "shard-1.tar")
        assert "400 training samples" in process.stdout.read()
    assert process.returncode == 0


def test_a_loss_that_is_no_number_fails(digits: Path, tmp_path: Path) -> None:
    ended = train(digits, tmp_path / "model", "--epochs=1", "--lr=1e30")
    assert ended.returncode == 2
    assert "the loss is nan" in ended.stderr
    assert not (tmp_path / "model").exists()
