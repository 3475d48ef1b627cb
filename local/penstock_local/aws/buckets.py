"""moto's S3 from inside its own process: the edge where its untyped objects become bytes and names.

An object counts as there when its ETag is known. moto computes it while it answers the PUT, by reading the object's buffer
without a lock; whoever reads that buffer meanwhile gets, and makes the client get, something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from moto.s3.models import s3_backends

_META: Final = "x-amz-meta-"


class Content(NamedTuple):
    """An object as a read gives it; `metadata`: the user's, names in lower case."""

    body: bytes
    etag: str
    metadata: dict[str, str]


def region(account: str, bucket: str) -> str | None:
    """The bucket's region; None without such a bucket."""
    found = _bucket(account, bucket)
    return None if found is None else str(found.region_name)


def listing(account: str, bucket: str, prefix: str) -> dict[str, str]:
    """The ETags of the objects under a prefix, by key; nothing where there is no bucket."""
    found = _bucket(account, bucket)
    keys = [] if found is None else [key for key in list(found.keys) if key.startswith(prefix)]
    return {key: stored._etag for key in keys if (stored := _object(found, key)) is not None}


def read(account: str, bucket: str, key: str) -> Content | None:
    """None without such an object."""
    stored = _object(_bucket(account, bucket), key)
    if stored is None:
        return None
    metadata = {name.removeprefix(_META): str(value) for name, value in stored.metadata.items() if name.startswith(_META)}
    return Content(bytes(stored.value), str(stored._etag), metadata)


def exists(account: str, uri: str) -> bool:
    bucket, key = parse(uri)
    return _object(_bucket(account, bucket), key) is not None


def write(account: str, bucket: str, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> str:
    """Put an object; its ETag. Raises moto's error without such a bucket."""
    etag = hashlib.md5(body).hexdigest()
    stored = s3_backends[account]["aws"].put_object(bucket, key, body, etag=etag)
    if metadata:
        stored.set_metadata({f"{_META}{name}": value for name, value in metadata.items()})
    return etag


def delete(account: str, bucket: str, key: str) -> None:
    s3_backends[account]["aws"].delete_object(bucket, key)


def parse(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` in two parts; the key may be empty.

    Raises:
        ValueError: another URI.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"{uri!r} is not s3://bucket/key")
    return bucket, key


def _bucket(account: str, name: str) -> Any:
    return s3_backends[account]["aws"].buckets.get(name)


def _object(bucket: Any, key: str) -> Any:
    """moto's object; None where there is none, or a delete marker, or one that is being put."""
    stored = None if bucket is None else bucket.keys.get(key)
    return stored if getattr(stored, "_etag", None) else None
