"""Batch prediction: `python -m penstock_serving.batch --model URI --input SHARDS_PREFIX_URI --output URI`.

Reads every .tar under the prefix in the order of their names, runs the model, and writes one JSON line per sample, in that
order: {"key", "label" (int or null), "probabilities"} with the softmax of the logits as float32. The output appears when it
is complete and not at all otherwise, so running again after a failure is safe. URIs are s3://, file:// or paths; an output
that does not end in .jsonl is a folder and gets predictions.jsonl. The first broken sample ends the run: a file with holes
would pass for a whole one.

Exit codes: 65 (EX_DATAERR) for a model, shards or a sample that would fail again, 2 for wrong arguments, 143 after SIGTERM,
1 for what another try may mend, such as storage that does not answer.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator

import numpy as np
import orjson

from penstock_serving import logs, storage
from penstock_serving import model as models
from penstock_serving.model import Model, ModelError
from penstock_serving.settings import usable_cpus
from penstock_serving.shards import Sample, SampleError, samples
from penstock_serving.storage import Missing, StorageError
from penstock_serving.tensors import Array


def predict(model: Model, shards: list[str], output: str, batch_rows: int) -> int:
    """Write the predictions of all shards; returns the number of samples.

    Raises:
        SampleError, StorageError, ModelError: as the modules tell; nothing is left at `output` then.
    """
    count = 0
    with storage.written(output) as file:
        found = itertools.chain.from_iterable(samples(shard, model.input) for shard in shards)
        while batch := list(itertools.islice(found, batch_rows)):
            file.write(b"".join(_lines(model, batch)))
            count += len(batch)
    return count


def softmax(logits: Array) -> Array:
    """Over the last axis, in float64, so that large logits neither overflow nor lose the small ones; returned as float32."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    result: Array = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


def _lines(model: Model, batch: list[Sample]) -> Iterator[bytes]:
    logits = model.run(np.stack([sample.array for sample in batch]))
    for sample, row, probabilities in zip(batch, logits, softmax(logits), strict=True):
        if not np.isfinite(row).all():
            raise ModelError(f"sample {sample.key!r}: the model's output is not finite")
        line = {"key": sample.key, "label": sample.label, "probabilities": probabilities}
        yield orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m penstock_serving.batch", description="Predict every sample of a set of shards."
    )
    parser.add_argument("--model", required=True, help="the model's folder or .pt2 file, as MODEL_URI of the server")
    parser.add_argument("--input", required=True, help="prefix or folder of .tar shards, or one shard")
    parser.add_argument("--output", required=True, help="a .jsonl file, or a folder that gets predictions.jsonl")
    parser.add_argument("--batch-rows", type=_positive, default=256, help="samples of one inference (default 256)")
    parser.add_argument(
        "--threads", type=_positive, default=usable_cpus(), help="threads of one inference (default: the CPU limit)"
    )
    parser.add_argument("--model-max-mib", type=_positive, default=16384, help="largest model file (default 16384)")
    options = parser.parse_args()
    output = options.output if options.output.endswith(".jsonl") else storage.join(options.output, "predictions.jsonl")
    # An unfinished upload is aborted on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logs.configure("text", "warning")
    begun = time.monotonic()
    try:
        shards = storage.files(options.input, ".tar")
        if not shards:
            raise Missing(f"{options.input}: no .tar shards there")
        limit = options.model_max_mib << 20
        model = models.load(options.model, max_bytes=limit, warm_up_rows=options.batch_rows, threads=options.threads)
        if not model.classes or len(model.output.row) != 1:
            raise ModelError(f"{options.model}: its output {model.output.shape} are not logits of classes")
        count = predict(model, shards, output, options.batch_rows)
    except (SampleError, StorageError, ModelError) as error:
        print(f"penstock-batch: {error}", file=sys.stderr)
        sys.exit(os.EX_DATAERR if _final(error) else 1)
    seconds = time.monotonic() - begun
    print(f"{count} samples of {len(shards)} shards predicted in {seconds:.1f} s: {output}", flush=True)


def _final(error: Exception) -> bool:
    """Whether another try would meet the same; a model's error may be its storage's."""
    cause = error.__cause__ if isinstance(error, ModelError) else error
    return not isinstance(cause, StorageError) or isinstance(cause, Missing)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


if __name__ == "__main__":
    main()
