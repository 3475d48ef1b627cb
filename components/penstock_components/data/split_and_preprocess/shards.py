"""Samples as WebDataset tar files, `<key>.npy` (float32) and `<key>.cls` (class index) each; equal samples give equal bytes.

Nothing in a shard tells when or by whom it was made, so a second run writes nothing: it finds objects with the same SHA-256.
One shard is in memory at a time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from penstock_components import s3
from penstock_components.errors import ComponentError

from .images import Array

log = logging.getLogger(__name__)


class Example(NamedTuple):
    """What a training program reads: key (no dots), array and class index."""

    key: str
    array: Array
    label: int


class Shard(NamedTuple):
    """One written shard, as dataset.json lists it."""

    name: str
    samples: int
    bytes: int
    sha256: str


def write(prefix: str, examples: Iterable[Example], limit: int, existing: set[str] | None) -> list[Shard]:
    """Write `shard-00000.tar`, ... under the prefix, each at most `limit` bytes (or one sample), and return their list.

    Args:
        existing: SHA-256 of the shards of a finished dataset there; then nothing else may come out, and nothing is written.

    Raises:
        ComponentError: the dataset is finished and has other shards.
    """
    shards = []
    for number, (count, data) in enumerate(_packed(examples, limit)):
        shard = Shard(f"shard-{number:05}.tar", count, len(data), hashlib.sha256(data).hexdigest())
        uri = s3.join(prefix, shard.name)
        if existing is not None and shard.sha256 not in existing:
            raise ComponentError(
                f"{uri}: the dataset there is finished and its arrays differ from those made now from the same inputs: the "
                "preprocessing function has changed or depends on chance; give another output_uri"
            )
        if s3.sha256(uri) == shard.sha256:
            log.info("%s is there already", uri)
        else:
            s3.write(uri, data, "application/x-tar")
            log.info("%s: %d samples, %d bytes", uri, count, len(data))
        shards.append(shard)
    return shards


def _packed(examples: Iterable[Example], limit: int) -> Iterator[tuple[int, bytes]]:
    members: list[tuple[str, bytes]] = []
    size = 0
    for example in examples:
        array = io.BytesIO()
        np.save(array, example.array, allow_pickle=False)
        pair = [(f"{example.key}.npy", array.getvalue()), (f"{example.key}.cls", str(example.label).encode())]
        added = sum(tarfile.BLOCKSIZE + -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for _, data in pair)
        if members and size + added + tarfile.RECORDSIZE > limit:
            yield len(members) // 2, _tar(members)
            members, size = [], 0
        members += pair
        size += added
    if members:
        yield len(members) // 2, _tar(members)


def _tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)  # time 0, owner 0, mode 0644
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
