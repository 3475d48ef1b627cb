"""A model as it is served: one tensor with a batch dimension in, one out. Loading it, and what it says about itself.

The file is copied to a private folder, measured and hashed there, checked (archive.py) and only then given to
torch.export.load, so nothing can change between the check and the load. It needs that much disk for a moment. Inference is on
the CPU, by the exported program's own graph; torch.compile is not used: it needs a compiler in the image and minutes at the
first request.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penstock_serving import archive, storage
from penstock_serving.tensors import DATATYPES, Array, Signature, datatype_of

_METADATA_BYTES = 1 << 20


class ModelError(Exception):
    """A model that cannot be served; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Model:
    """`run` takes rows of `input` and returns as many rows of `output`; call it from one thread."""

    input: Signature
    output: Signature
    classes: tuple[str, ...]
    run: Callable[[Array], Array]
    source: str
    sha256: str


def load(uri: str, *, max_bytes: int, warm_up_rows: int, threads: int) -> Model:
    """Fetch, check, load and try the model. Call it from the thread that will run it: threads are counted per thread.

    Raises:
        ModelError: it cannot be fetched, is too large, is not what model.json says, may not be loaded, or does not run.
    """
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory(prefix="penstock-model-") as folder:
            path = Path(folder, "model.pt2")
            source, sha256 = _fetch(uri, path, max_bytes)
            information = archive.check(path)
            program = torch.export.load(path)
            # No guards: they would be compiled from text in the file, and what they check is checked by us.
            module = program.module(check_guards=False)
    except (storage.StorageError, archive.UnsafeModel) as error:
        raise ModelError(f"{uri}: {error}" if uri not in str(error) else str(error)) from error
    except OSError as error:
        raise ModelError(f"{uri}: cannot be kept on disk while it is loaded: {error}") from error
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{uri}: torch {torch.__version__} cannot load it: {error}") from error
    classes, expected = _described(source, information)
    run = _runner(module.forward, expected, _fewest_rows(source, program, expected, warm_up_rows))
    output = _warm_up(source, run, expected, classes, warm_up_rows)
    return Model(expected, output, classes, run, source, sha256)


def _fetch(uri: str, path: Path, max_bytes: int) -> tuple[str, str]:
    """Copy the model to `path`; returns its own URI and its SHA-256."""
    said: dict[str, Any] = {}
    source = uri
    if not uri.endswith(".pt2"):
        described = storage.join(uri, "model.json")
        said = _model_json(described, storage.read(described, _METADATA_BYTES))
        source = storage.join(uri, said["model"])
    if (found := storage.size(source)) > max_bytes:
        raise ModelError(f"{source}: {found} bytes; at most {max_bytes} are loaded (PENSTOCK_MODEL_MAX_MIB)")
    storage.fetch(source, path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if said and said["bytes"] != (found := path.stat().st_size):
        raise ModelError(f"{source}: {found} bytes, but model.json says {said['bytes']}: not the file that was registered")
    if said and said["sha256"] != sha256:
        raise ModelError(f"{source}: SHA-256 {sha256}, but model.json says {said['sha256']}: not the file that was registered")
    return source, sha256


def _model_json(uri: str, data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{uri}: is not JSON: {error}") from error
    expected = {"model": str, "bytes": int, "sha256": str}
    for key, kind in expected.items():
        if not isinstance(said, dict) or not isinstance(said.get(key), kind):
            raise ModelError(f"{uri}: no {key} ({kind.__name__}); expected model, bytes and sha256")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", said["model"]):
        raise ModelError(f"{uri}: model {said['model']!r}; expected the name of a file beside it")
    return dict(said)


def _described(source: str, information: dict[str, Any]) -> tuple[tuple[str, ...], Signature]:
    """Classes and input as penstock.json tells them."""
    try:
        name, classes, given = information["name"], information["classes"], information["input"]
        datatype, shape = datatype_of(given["dtype"]), given["shape"]
        rows = tuple(shape[1:])
        right = isinstance(given["name"], str) and all(isinstance(each, str) for each in [name, *classes])
        if not right or shape[0] != -1 or not all(type(size) is int and size > 0 for size in rows):
            raise ValueError(f"input {given}; expected a name and a shape of -1 for the batch and sizes above 0")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{source}: penstock.json: {reason}") from error
    return tuple(classes), Signature(given["name"], datatype, rows)


def _fewest_rows(source: str, program: torch.export.ExportedProgram, expected: Signature, most: int) -> int:
    """The smallest batch the program was exported for; a fixed batch, or one that need not hold `most` rows, is refused.

    The program itself is run without its checks, and outside its range it may answer wrongly instead of failing.
    """
    names = program.graph_signature.user_inputs
    inputs = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor):
        raise ModelError(f"{source}: takes the inputs {list(names)}; expected one tensor")
    dtype, shape = str(inputs[0].dtype).removeprefix("torch."), list(inputs[0].shape)
    if datatype_of(dtype) != expected.datatype or len(shape) != len(expected.shape) or shape[1:] != list(expected.row):
        raise ModelError(
            f"{source}: exported for {shape} of {dtype}, but penstock.json says {expected.shape} {expected.datatype}"
        )
    limits = program.range_constraints.get(shape[0].node.expr) if isinstance(shape[0], torch.SymInt) else None
    if limits is None:
        raise ModelError(
            f"{source}: exported for batches of {shape[0]} only; give torch.export.export a dynamic batch dimension"
        )
    if most > limits.upper:
        raise ModelError(f"{source}: exported for at most {limits.upper} rows; lower PENSTOCK_BATCH_MAX_ROWS ({most})")
    return int(limits.lower)


def _runner(forward: Callable[[Any], Any], expected: Signature, fewest: int) -> Callable[[Array], Array]:
    """The program as a function of numpy arrays, which share memory with its tensors."""
    bfloat16 = expected.datatype == "BF16"

    def run(rows: Array) -> Array:
        # torch's own default for a dynamic dimension begins at 2: one row is then run twice.
        if (missing := fewest - len(rows)) > 0:
            return run(np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]))[: len(rows)]
        with torch.inference_mode():
            tensor = torch.from_numpy(rows)
            answer = forward(tensor.to(torch.bfloat16) if bfloat16 else tensor)
            if not isinstance(answer, torch.Tensor):
                raise TypeError(f"the model returned {type(answer).__name__}; expected one tensor")
            # numpy has no bfloat16; float32 holds every one of its values.
            array: Array = (answer.float() if answer.dtype == torch.bfloat16 else answer).contiguous().numpy()
            return array

    return run


def _warm_up(source: str, run: Callable[[Array], Array], expected: Signature, classes: tuple[str, ...], most: int) -> Signature:
    """Run the smallest and the largest batch; returns what comes out."""
    for rows in sorted({1, most}):
        zeros = np.zeros((rows, *expected.row), DATATYPES[expected.datatype])
        try:
            out = run(zeros)
        except Exception as error:
            shape = [rows, *expected.row]
            raise ModelError(f"{source}: fails for an input of shape {shape} {expected.datatype}: {error}") from error
        if out.ndim < 1 or out.shape[0] != rows:
            raise ModelError(f"{source}: {rows} rows in, shape {list(out.shape)} out; expected as many rows")
    if classes and out.shape[1:] != (len(classes),):
        raise ModelError(f"{source}: {len(classes)} classes, but the output's shape is {list(out.shape)}")
    return Signature("logits", datatype_of(out.dtype.name), out.shape[1:])
