"""Samples of WebDataset shards, read front to back without unpacking them on disk.

A shard is a tar file; the members `<key>.npy` (numpy.save, float32) and, where the truth is known, `<key>.cls` (the class index
as ASCII) stand side by side. The key is a member's name up to the first dot after its folder.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from penstock_serving import storage
from penstock_serving.tensors import DATATYPES, Array, Signature

_SAMPLE_BYTES = 1 << 30


class _Member(tarfile.TarInfo):
    """A shard that was cut off ends without the block of zeros that ends a tar file; tarfile would take it for a short one."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]  # not in typeshed
            raise tarfile.ReadError("it ends in the middle") from error


class SampleError(Exception):
    """A shard or a sample that cannot be read; the message names the shard and the key."""


@dataclass(frozen=True, slots=True)
class Sample:
    key: str
    array: Array
    label: int | None


def samples(shard: str, expected: Signature) -> Iterator[Sample]:
    """Every sample of a shard, in its order.

    Raises:
        SampleError: the shard is broken, or a sample has no .npy or does not fit the model.
        StorageError: the shard cannot be read.
    """
    key, parts = "", dict[str, bytes]()
    for name, content in _members(shard):
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        if (found := f"{folder}{slash}{stem}") != key:
            if parts:
                yield _sample(shard, key, parts, expected)
            key, parts = found, {}
        if extension in parts:
            raise SampleError(f"{shard}: sample {key!r} has two members {extension!r}")
        parts[extension] = content
    if parts:
        yield _sample(shard, key, parts, expected)


def _members(shard: str) -> Iterator[tuple[str, bytes]]:
    last = ""
    try:
        with storage.opened(shard) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                last = member.name
                if member.size > _SAMPLE_BYTES:
                    raise SampleError(f"{shard}: {last!r} has {member.size} bytes; at most {_SAMPLE_BYTES} are read")
                file = archive.extractfile(member)
                yield last, file.read() if file else b""
    except (tarfile.TarError, EOFError) as error:
        raise SampleError(f"{shard}: a broken tar file{f', after {last!r}' if last else ''}: {error}") from error


def _sample(shard: str, key: str, parts: dict[str, bytes], expected: Signature) -> Sample:
    where = f"{shard}: sample {key!r}"
    if "npy" not in parts:
        raise SampleError(f"{where}: no {key}.npy; found {', '.join(sorted(parts))}")
    try:
        array: Array = np.load(io.BytesIO(parts["npy"]), allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise SampleError(f"{where}: {key}.npy cannot be read: {error}") from error
    wanted = DATATYPES[expected.datatype]
    if array.shape != expected.row or array.dtype != wanted:
        found = f"{list(array.shape)} of {array.dtype}"
        raise SampleError(f"{where}: the model expects shape {list(expected.row)} of {wanted}, found {found}")
    label = None
    if "cls" in parts:
        text = parts["cls"].strip()
        if not text.isdigit():
            raise SampleError(f"{where}: {key}.cls: expected a class index, found {text[:40]!r}")
        label = int(text)
    return Sample(key, array, label)
