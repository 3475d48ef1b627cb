"""Train a small convolutional network on shards of images with Horovod, and leave it as one file that a model server loads.

    mpirun -np 2 python3 train_images.py --data /data/dataset --out /data/model --epochs 20

Reads WebDataset shards (`<key>.npy` float32, `<key>.cls` class index) of --data/train and --data/validation, and the classes
from --data/dataset.json. Every rank holds the whole training split in memory (on its GPU, if it has one) and trains on its
share; Horovod averages the gradients. What dataset.json counts and is not there yet is waited for: FSx brings new objects of S3
some time after they were written. The weights of the epoch with the best validation loss are exported: --out/model.pt2
(torch.export, any batch size, raw inputs: the normalisation is part of the model), then --out/model.json, which tells that the
model is whole. A run that is started again begins anew. `--alone` trains with one process and without Horovod.

Exit status: 0; 2 for a wrong argument or data that cannot be used.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc"
# Neither torch nor Horovod is where the pipelines are checked.

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import math
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Unusable(ValueError):
    """Data that cannot be trained on; the message names the file."""


class Split(NamedTuple):
    """images (n, channels, height, width) float32, labels (n,) int64."""

    images: Tensor
    labels: Tensor


class Ring(NamedTuple):
    """What ranks do together: add up a number, and train as one."""

    rank: int
    size: int
    device: torch.device
    total: Callable[[Tensor], Tensor]
    joined: Callable[[nn.Module, torch.optim.Optimizer], torch.optim.Optimizer]


# --- data ---------------------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What dataset.json tells: class names, and how many samples each split has."""

    classes: list[str]
    counts: dict[str, int]


def read_told(path: Path, until: float) -> Told:
    """dataset.json, waited for until the clock (monotonic) is at `until`.

    Raises:
        Unusable: it is not there, or does not tell classes and counts.
    """
    while not path.exists() and time.monotonic() < until:
        time.sleep(1)
    try:
        about = json.loads(path.read_text())
        counts = {split: sum(int(count) for count in each.values()) for split, each in about["counts"].items()}
        return Told([str(name) for name in about["classes"]], {split: counts[split] for split in ("train", "validation")})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{path} does not tell the classes and the counts of train and validation: {error!r}") from error


def read_whole(folder: Path, classes: int, count: int, until: float) -> Split:
    """`read_split`, once all `count` samples are there.

    Raises:
        Unusable: there are more, or fewer when the clock (monotonic) is at `until`; or as `read_split`.
    """
    seen: list[tuple[str, int]] | None = None
    found = 0
    while True:
        shards = sorted((path.name, path.stat().st_size) for path in folder.glob("*.tar"))
        if shards and shards != seen:
            split = read_split(folder, classes)
            seen, found = shards, len(split.labels)
            if found == count:
                return split
            if found > count:
                raise Unusable(
                    f"{folder} holds {found} samples, dataset.json tells {count}: shards of another dataset are there"
                )
            print(f"{folder} holds {found} of {count} samples, waiting for the others", flush=True)
        if time.monotonic() >= until:
            raise Unusable(f"{folder} holds {found} samples in {len(shards)} shards, dataset.json tells {count}")
        time.sleep(1)


def read_split(folder: Path, classes: int) -> Split:
    """All samples of a folder of shards, in the order of shards and keys.

    Raises:
        Unusable: no shard, a broken one, arrays of another shape than (channels, height, width) or than the first, or a label
            outside the classes.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    for shard in sorted(folder.glob("*.tar")):
        for key, array, label in _samples(shard):
            if array.dtype != np.float32 or array.ndim != 3 or array.shape != (arrays[0] if arrays else array).shape:
                wanted = arrays[0].shape if arrays else "(channels, height, width)"
                raise Unusable(f"{shard}: {key} is {array.dtype} {array.shape}, expected float32 {wanted}")
            if not 0 <= label < classes:
                raise Unusable(f"{shard}: {key} has class {label}, dataset.json tells {classes} classes")
            arrays.append(array)
            labels.append(label)
    if not arrays:
        raise Unusable(f"{folder} holds no sample; expected shard-00000.tar, ...")
    return Split(torch.from_numpy(np.stack(arrays)), torch.tensor(labels))


def _samples(shard: Path) -> Iterator[tuple[str, np.ndarray[Any, Any], int]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, kind = member.name.rpartition(".")
                file = tar.extractfile(member)
                if file is not None and kind == "npy":
                    arrays[key] = np.load(io.BytesIO(file.read()), allow_pickle=False)
                elif file is not None and kind == "cls":
                    labels[key] = int(file.read())
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise Unusable(f"{shard} cannot be read: {error}") from error
    if arrays.keys() != labels.keys():
        raise Unusable(f"{shard}: {sorted(arrays.keys() ^ labels.keys())[:5]} have no .npy or no .cls")
    for key in arrays:
        yield key, arrays[key], labels[key]


def shares(count: int, batch_size: int, epoch: int, seed: int, ring: Ring) -> list[Tensor]:
    """This rank's batches of an epoch. Every rank gets equally many: a rank short of one would stop the others."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1000 + epoch))
    size = min(batch_size, count // ring.size)
    steps = count // (size * ring.size)
    return list(order[: steps * size * ring.size].view(steps, ring.size, size)[:, ring.rank].to(ring.device))


# --- the model ----------------------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """Convolutions over normalised images, averaged over the picture: any size from 8 x 8. Group norm: batches may be small."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, images: Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", images.mean((0, 2, 3), keepdim=True))
        self.register_buffer("deviation", images.std((0, 2, 3), keepdim=True).clamp_min(1e-6))
        layers: list[nn.Module] = []
        channels = images.shape[1]
        for width in (32, 64, 128):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, classes)]
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers((images - self.mean) / self.deviation)
        return logits


def export(model: nn.Module, example: Tensor, classes: list[str], name: str, folder: Path, about: dict[str, Any]) -> None:
    """Write model.pt2 and, last, model.json with `about` (metrics, history) in it; both appear whole.

    Args:
        example: at least two rows of input; the exported program must answer them, and one alone, as the model does.

    Raises:
        RuntimeError: it does not.
    """
    model.eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    row = [-1, *example.shape[1:]]
    information = {"name": name, "classes": classes, "input": {"name": "image", "shape": row, "dtype": "float32"}}
    folder.mkdir(parents=True, exist_ok=True)
    # Made on the pod's own disk: S3 follows the folder, and would get half a file, or one under a passing name.
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, "model.pt2")
        torch.export.save(program, made, extra_files={"penstock.json": json.dumps(information)})
        _compare(model, torch.export.load(made).module(), example)
        with made.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = made.stat().st_size
        (folder / "model.json").unlink(missing_ok=True)  # of an earlier attempt: it does not tell of this model
        shutil.copyfile(made, folder / "model.pt2")
    with (folder / "model.pt2").open("rb+") as file:
        os.fsync(file.fileno())
    said = {"model": "model.pt2", "bytes": size, "sha256": digest, **about}
    if attempt := os.environ.get("PENSTOCK_ATTEMPT"):  # tells it from what an attempt before left in S3
        said["attempt"] = int(attempt)
    (folder / "model.json").write_text(json.dumps(said, indent=1) + "\n")


def _compare(model: nn.Module, loaded: Any, example: Tensor) -> None:
    with torch.inference_mode():
        for rows in (example, example[:1]):
            if not torch.allclose(model(rows), loaded(rows), rtol=1e-4, atol=1e-5):
                raise RuntimeError("the exported program answers differently from the model; torch.export is at fault")


# --- training -----------------------------------------------------------------------------------------------------------------


def measure(model: nn.Module, split: Split, ring: Ring) -> tuple[float, float]:
    """Mean loss and accuracy; every rank takes its share."""
    model.eval()
    mine = Split(split.images[ring.rank :: ring.size], split.labels[ring.rank :: ring.size])
    sums = torch.zeros(2, device=ring.device)
    with torch.inference_mode():
        for start in range(0, len(mine.labels), 256):
            logits, labels = model(mine.images[start : start + 256]), mine.labels[start : start + 256]
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack([functional.cross_entropy(logits, labels, reduction="sum"), right.float()])
    loss, right_ones = (ring.total(sums) / len(split.labels)).tolist()
    return loss, right_ones


def fit(model: nn.Module, train: Split, validation: Split, args: argparse.Namespace, ring: Ring) -> list[dict[str, float]]:
    """Train; the model ends with the weights of the best epoch. One entry an epoch: losses and validation accuracy."""
    from penstock_trainer import Progress

    steps = len(shares(len(train.labels), args.batch_size, 0, args.seed, ring))
    # Adam's step grows with the square root of the batch, not with the batch.
    optimizer = ring.joined(model, torch.optim.AdamW(model.parameters(), lr=args.lr * math.sqrt(ring.size)))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * steps)
    torch.manual_seed(args.seed + 1 + ring.rank)
    history: list[dict[str, float]] = []
    best, least = dict[str, Any](), math.inf
    step = 0
    with Progress(args.epochs * steps, args.epochs, batch_size=args.batch_size) as progress:
        for epoch in range(1, args.epochs + 1):
            model.train()
            summed = torch.zeros(1, device=ring.device)
            for batch in shares(len(train.labels), args.batch_size, epoch, args.seed, ring):
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(train.images[batch]), train.labels[batch])
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                step += 1
                summed += loss.detach()
                progress.update(step, epoch, loss=loss.detach())
            mean = float(ring.total(summed)) / (steps * ring.size)
            validation_loss, accuracy = measure(model, validation, ring)
            entry = {"loss": mean, "validation_loss": validation_loss, "validation_accuracy": accuracy}
            # The sums are the same on every rank, so all keep the same epoch.
            if validation_loss < least:  # false for NaN
                best, least = copy.deepcopy(model.state_dict()), validation_loss
            history.append({"epoch": epoch, **entry})
            progress.update(step, epoch, **entry)
            if ring.rank == 0:
                print(f"epoch {epoch}/{args.epochs}  " + "  ".join(f"{k} {v:.4f}" for k, v in entry.items()), flush=True)
    if not best:
        raise Unusable(f"the loss is {history[-1]['validation_loss']}: lower --lr, or look at the data")
    model.load_state_dict(best)
    return history


def alone() -> Ring:
    """One process."""
    return Ring(0, 1, _device(0), lambda value: value, lambda model, optimizer: optimizer)


def horovod() -> Ring:
    """All ranks of the job."""
    import horovod.torch as hvd

    def joined(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        # Same start everywhere: rank 0's weights and optimizer state.
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        hvd.broadcast_optimizer_state(optimizer, root_rank=0)
        averaged: torch.optim.Optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
        return averaged

    hvd.init()
    device = _device(hvd.local_rank())
    return Ring(hvd.rank(), hvd.size(), device, lambda value: hvd.allreduce(value, op=hvd.Sum), joined)


def _device(local_rank: int) -> torch.device:
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def run(args: argparse.Namespace, ring: Ring) -> None:
    """Train and, on rank 0, export. Raises as `read_told`, `read_whole`, `fit` and `export`."""
    until = time.monotonic() + args.wait_seconds
    classes, counts = read_told(args.data / "dataset.json", until)
    splits = (read_whole(args.data / name, len(classes), counts[name], until) for name in ("train", "validation"))
    train, validation = (Split(images.to(ring.device), labels.to(ring.device)) for images, labels in splits)
    if len(train.labels) < ring.size:
        raise Unusable(f"{args.data / 'train'}: {len(train.labels)} samples for {ring.size} ranks")
    if ring.rank == 0:
        print(f"{ring.size} ranks, {len(train.labels)} training samples of {tuple(train.images.shape[1:])}", flush=True)
    torch.manual_seed(args.seed)
    model = Classifier(train.images, len(classes)).to(ring.device)
    history = fit(model, train, validation, args, ring)
    if ring.rank == 0:
        chosen = min(history, key=lambda each: each["validation_loss"])
        metrics = {key: value for key, value in chosen.items() if key != "epoch"}
        about = {"metrics": {**metrics, "best_epoch": chosen["epoch"], "ranks": ring.size}, "history": history}
        export(model.cpu(), validation.images[:2].cpu().repeat(2, 1, 1, 1)[:2], classes, args.name, args.out, about)
        print(f"{args.out / 'model.json'}: epoch {chosen['epoch']}, {metrics}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small CNN on shards of images with Horovod.")
    parser.add_argument("--data", type=Path, required=True, help="folder with dataset.json, train/ and validation/")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.pt2 and model.json")
    parser.add_argument("--name", default="model", help="the model's name, written into the file")
    parser.add_argument("--epochs", type=_positive, default=20, help="passes over the training data (default 20)")
    parser.add_argument("--batch-size", type=_positive, default=32, help="images of one step on one rank (default 32)")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of one rank (default 0.002)")
    parser.add_argument("--seed", type=int, default=7, help="of the initial weights and the order (default 7)")
    parser.add_argument(
        "--wait-seconds", type=float, default=300.0, help="for samples that dataset.json counts and are not there (default 300)"
    )
    parser.add_argument("--alone", action="store_true", help="one process, without Horovod")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def main() -> int:
    args = parse_arguments()
    # One thread a rank: the ranks of a node share its cores, and the model is too small to gain from more.
    torch.set_num_threads(1)
    ring = alone() if args.alone else horovod()
    try:
        run(args, ring)
    except Unusable as error:
        print(f"train_images: rank {ring.rank}: {error}", file=sys.stderr)
        return 2
    # mpirun ends every rank when the first one fails, so nobody leaves before rank 0 has written the model.
    ring.total(torch.zeros(1, device=ring.device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
