"""Real exported models, and files that only look like them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = ["setosa", "versicolor", "virginica"]
BATCH = torch.export.Dim("batch", min=1)


class Iris(nn.Module):
    """Four numbers to three logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 3))

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.layers(rows)
        return logits


class Slow(nn.Module):
    """The sum of each row, after some seconds of work that the result depends on but for nothing."""

    def __init__(self, products: int) -> None:
        super().__init__()
        self.products = products
        self.register_buffer("matrix", torch.full((1000, 1000), 1e-3))

    def forward(self, rows: Tensor) -> Tensor:
        # The rows take part, so that the work is not done once and for all.
        found = self.matrix + rows.sum() * 0
        for _ in range(self.products):
            found = torch.tanh(found @ self.matrix)
        return rows.sum(1, keepdim=True) + found.sum() * 0


class Sum(nn.Module):
    """The sum of each row as float64, whatever comes in."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.to(torch.float64).sum(1, keepdim=True)


class Picky(nn.Module):
    """Looks rows up in a table of ten: any other number is an error of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.arange(10.0).unsqueeze(1))

    def forward(self, rows: Tensor) -> Tensor:
        return self.table(rows).sum(1)


class Infinite(nn.Module):
    """One divided by the row's sum."""

    def forward(self, rows: Tensor) -> Tensor:
        return 1 / rows.sum(1, keepdim=True)


class Count(nn.Module):
    """The number of rows of the batch, for each row."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * 0 + rows.shape[0]


def save(
    path: Path,
    model: nn.Module,
    row: list[int],
    dtype: str = "float32",
    classes: list[str] | None = None,
    *,
    batch: Any = BATCH,
) -> Path:
    """Export the model to a file; `batch` None fixes its batch at 2."""
    sample = torch.zeros([2, *row], dtype=getattr(torch, dtype))
    program = torch.export.export(model.eval(), (sample,), dynamic_shapes=({0: batch},) if batch else None)
    information = {"name": "m", "classes": classes or [], "input": {"name": "x", "shape": [-1, *row], "dtype": dtype}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path, extra_files={"penstock.json": json.dumps(information)})
    return path


def register(model: Path) -> Path:
    """Write model.json beside the file, as training does last; returns the folder."""
    data = model.read_bytes()
    said = {"model": model.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "metrics": {"accuracy": 0.9}}
    (model.parent / "model.json").write_text(json.dumps(said))
    return model.parent


def changed(
    model: Path, target: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED
) -> Path:
    """A copy of the archive whose entries (without their folder) `change` has changed."""
    with zipfile.ZipFile(model) as archive:
        root = archive.namelist()[0].partition("/")[0]
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(f"{root}/{name}", content)
    return target


def edited(name: str, edit: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    """A change of one JSON entry."""

    def change(entries: dict[str, bytes]) -> None:
        found = json.loads(entries[name])
        edit(found)
        entries[name] = json.dumps(found).encode()

    return change
