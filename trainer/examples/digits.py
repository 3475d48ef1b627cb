"""Train a small convolutional network on scikit-learn's handwritten digits with Horovod, on any number of ranks.

1,797 images of 8 x 8 pixels, real data that ships with scikit-learn, so nothing is downloaded. A fifth of them, the
same share of every digit, is held out for the test. Every rank trains on its share of the rest; Horovod averages the
gradients. Rank 0 prints one line per epoch, reports progress to the operator and writes the result.

    mpirun -np 2 python3 digits.py --epochs 20 --out /tmp/digits

Exit status: 0; 1 when the test accuracy is below --min-accuracy; 2 for a wrong argument.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import horovod.torch as hvd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from penstock_trainer import Progress


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a CNN on scikit-learn's digits with Horovod.")
    parser.add_argument("--epochs", type=positive, default=20, help="passes over the training data (default 20)")
    parser.add_argument("--batch-size", type=positive, default=32, help="images of one step on one rank (default 32)")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of one rank (default 0.002)")
    parser.add_argument("--seed", type=int, default=7, help="of the split, the initial weights and the order (default 7)")
    parser.add_argument("--out", type=Path, help="folder for model.pt (state_dict) and metrics.json")
    parser.add_argument("--min-accuracy", type=float, default=0.0, help="exit 1 below this test accuracy (default 0)")
    return parser.parse_args()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def load(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images in [0, 1] as N x 1 x 8 x 8 and their labels: training images, test images, training and test labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    train, test, train_labels, test_labels = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=seed)
    return train, test, train_labels, test_labels


def build_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(128 * 2 * 2, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 10),
    )


def shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """The batch moved by up to one pixel each way: cheap variety for a small data set."""
    down, right = (int(n) for n in torch.randint(0, 3, (2,), generator=random))
    return functional.pad(images, (1, 1, 1, 1))[:, :, down : down + 8, right : right + 8]


def shares(count: int, batch_size: int, epoch: int, seed: int) -> list[Tensor]:
    """This rank's batches of an epoch. Every rank gets equally many: a rank short of one would stop the others."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1000 + epoch))
    size = min(batch_size, count // hvd.size())
    steps = count // (size * hvd.size())
    mine = order[: steps * size * hvd.size()].view(steps, hvd.size(), size)[:, hvd.rank()]
    return list(mine)


def test_accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Every rank tests its share; the counts are summed over the ranks."""
    model.eval()
    with torch.no_grad():
        right = (model(images[hvd.rank() :: hvd.size()]).argmax(1) == labels[hvd.rank() :: hvd.size()]).sum()
    return float(hvd.allreduce(right.float(), op=hvd.Sum, name="right")) / len(labels)


def train(args: argparse.Namespace) -> tuple[nn.Module, float, list[dict[str, float]]]:
    train_images, test_images, train_labels, test_labels = load(args.seed)
    torch.manual_seed(args.seed)
    model = build_model()
    steps_per_epoch = len(shares(len(train_labels), args.batch_size, 0, args.seed))
    # Adam's step grows with the square root of the batch, not with the batch.
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr * math.sqrt(hvd.size()))
    # Same start everywhere: rank 0's weights and optimizer state, whatever the seeds of the others were.
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    averaged = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(averaged, args.epochs * steps_per_epoch)
    torch.manual_seed(args.seed + 1 + hvd.rank())
    random = torch.Generator().manual_seed(args.seed + 1 + hvd.rank())

    step, accuracy, history = 0, 0.0, []
    progress = Progress(args.epochs * steps_per_epoch, args.epochs, batch_size=args.batch_size)
    with progress:
        for epoch in range(1, args.epochs + 1):
            model.train()
            total = 0.0
            for done, batch in enumerate(shares(len(train_labels), args.batch_size, epoch, args.seed), start=1):
                averaged.zero_grad()
                loss = functional.cross_entropy(model(shifted(train_images[batch], random)), train_labels[batch])
                loss.backward()
                averaged.step()
                schedule.step()
                step += 1
                total += loss.item()
                progress.update(step, epoch, loss=total / done)
            mean_loss = float(hvd.allreduce(torch.tensor(total / steps_per_epoch), name="loss"))
            accuracy = test_accuracy(model, test_images, test_labels)
            progress.update(step, epoch, loss=mean_loss, test_accuracy=accuracy)
            history.append({"epoch": epoch, "loss": mean_loss, "test_accuracy": accuracy})
            if hvd.rank() == 0:
                print(f"epoch {epoch}/{args.epochs}  loss {mean_loss:.4f}  test accuracy {accuracy:.4f}", flush=True)
    return model, accuracy, history


def main() -> int:
    args = parse_arguments()
    hvd.init()
    # One thread a rank: the ranks of a node share its cores, and the model is too small to gain from more.
    torch.set_num_threads(1)
    if hvd.rank() == 0:
        print(f"{hvd.size()} ranks, torch {torch.__version__}", flush=True)
    model, accuracy, history = train(args)
    failed = math.isnan(accuracy) or accuracy < args.min_accuracy
    if hvd.rank() == 0:
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), args.out / "model.pt")
            (args.out / "metrics.json").write_text(
                json.dumps({"test_accuracy": accuracy, "ranks": hvd.size(), "history": history}, indent=2) + "\n"
            )
        print(f"test accuracy {accuracy:.4f}", flush=True)
        if failed:
            print(f"digits: test accuracy {accuracy:.4f} is below --min-accuracy {args.min_accuracy}", file=sys.stderr)
    # mpirun ends every rank when the first one fails, so nobody leaves before rank 0 has written the result.
    hvd.barrier()
    hvd.shutdown()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
