"""Objects in S3 by URI: read, write, list. Whole objects in memory, which suits manifests, images and shards (under 5 GiB).

Every write carries its SHA-256 as S3's own checksum: S3 refuses bytes damaged on the way, and `sha256` can ask later what is
there without reading it. Errors name the URI and the usual cause; an Outage is S3's own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from . import aws
from .errors import ComponentError, Outage

PAGE = 1000
_MISSING = {"404", "NoSuchKey", "NotFound"}
_HINTS = {
    "NoSuchBucket": "there is no such bucket; check the name and the account",
    "AccessDenied": "the pod's role may not do this, or the object is not there and the role may not list the bucket",
    "403": "the pod's role may not do this, or the object is not there and the role may not list the bucket",
    "PermanentRedirect": "the bucket is in another region than AWS_REGION",
    "301": "the bucket is in another region than AWS_REGION",
    "InvalidObjectState": "the object is archived (Glacier); restore it first",
}


class Object(NamedTuple):
    """One object of a listing; size in bytes, etag without quotes."""

    uri: str
    size: int
    etag: str


def parse(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; the key may be empty or end in a slash.

    Raises:
        ComponentError: not an S3 URI.
    """
    if not isinstance(uri, str) or not uri.startswith("s3://"):
        raise ComponentError(f"{uri!r} is not an S3 URI; write s3://bucket/key")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise ComponentError(f"{uri!r} names no bucket; write s3://bucket/key")
    return bucket, key


def join(prefix: str, *parts: str) -> str:
    """`prefix/part/part` with single slashes, whether or not the prefix ends in one."""
    return "/".join([prefix.rstrip("/"), *parts])


def read(uri: str) -> bytes:
    """The bytes of one object.

    Raises:
        ComponentError: it is not there, or may not be read.
    """
    bucket, key = _object(uri)
    try:
        body: bytes = aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        raise _explained(uri, error) from error
    return body


def write(uri: str, data: bytes, content_type: str | None = None) -> None:
    """Write one object, replacing what is there; it appears whole or not at all.

    Raises:
        ComponentError: it may not be written, or the bucket is not there.
    """
    bucket, key = _object(uri)
    extra = {"ContentType": content_type} if content_type else {}
    try:
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256", **extra)
    except ClientError as error:
        raise _explained(uri, error) from error


def exists(uri: str) -> bool:
    """Whether the object is there. Raises as `find`."""
    return find(uri) is not None


def find(uri: str) -> Object | None:
    """Size and etag of one object, None if it is not there.

    Raises:
        ComponentError: S3 does not say (no permission, no such bucket).
    """
    answer = _head(uri)
    return None if answer is None else Object(uri, answer["ContentLength"], answer["ETag"].strip('"'))


def sha256(uri: str) -> str | None:
    """The SHA-256 (hex) that S3 keeps of the object; None if it is not there or was written without one. Raises as `find`."""
    checksum = (_head(uri) or {}).get("ChecksumSHA256")
    # A multipart upload's checksum is of its parts ("...-3"): it says nothing about the whole.
    return None if checksum is None or "-" in checksum else base64.b64decode(checksum).hex()


def delete(uri: str) -> None:
    """Delete one object; one that is not there is no error.

    Raises:
        ComponentError: it may not be deleted.
    """
    bucket, key = _object(uri)
    try:
        aws.client("s3").delete_object(Bucket=bucket, Key=key)
    except ClientError as error:
        raise _explained(uri, error) from error


def objects(prefix_uri: str) -> Iterator[Object]:
    """Every object whose key starts with the prefix, in key order, one request for `PAGE` of them.

    Raises:
        ComponentError: the bucket is not there or may not be listed.
    """
    bucket, prefix = parse(prefix_uri)
    pages = aws.client("s3").get_paginator("list_objects_v2")
    try:
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": PAGE}):
            for entry in page.get("Contents", []):
                yield Object(f"s3://{bucket}/{entry['Key']}", entry["Size"], entry["ETag"].strip('"'))
    except ClientError as error:
        raise _explained(prefix_uri, error) from error


def region(bucket: str) -> str:
    """The region a bucket lives in, such as "us-east-1".

    Raises:
        ComponentError: the bucket is not there or belongs to someone else.
    """
    try:
        answer = aws.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if "x-amz-bucket-region" in headers and aws.code(error) in {"301", "PermanentRedirect"}:
            return str(headers["x-amz-bucket-region"])
        if aws.code(error) in _MISSING:
            raise ComponentError(f"bucket {bucket!r}: {_HINTS['NoSuchBucket']}") from error
        raise _explained(f"s3://{bucket}", error) from error
    found = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return str(found or aws.client("s3").meta.region_name)


def _head(uri: str) -> dict[str, Any] | None:
    bucket, key = _object(uri)
    try:
        answer: dict[str, Any] = aws.client("s3").head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except ClientError as error:
        if aws.code(error) in _MISSING:
            return None
        raise _explained(uri, error) from error
    return answer


def _object(uri: str) -> tuple[str, str]:
    bucket, key = parse(uri)
    if not key or key.endswith("/"):
        raise ComponentError(f"{uri!r} names no object; write s3://bucket/key")
    return bucket, key


def _explained(uri: str, error: ClientError) -> ComponentError | Outage:
    code = aws.code(error)
    hint = "the object is not there" if code in _MISSING else _HINTS.get(code, "S3 refused")
    kind = Outage if aws.transient(error) else ComponentError
    return kind(f"{uri}: {hint} ({aws.message(error)})")
