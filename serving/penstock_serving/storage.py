"""Files by URI, s3://bucket/key, file:///path or a plain path (a mounted FSx for Lustre): reading, listing, atomic writing.

Credentials and region come from boto3's default chain: in a pod that is EKS Pod Identity, on SageMaker the execution role.
Nothing is retried beyond what boto3 does for one call; a stream that breaks half way is an error, because a half-read shard
cannot be told from a short one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

# S3 takes 10,000 parts of 5 MiB or more: 160 GiB of predictions.
_PART_BYTES = 16 << 20


class StorageError(Exception):
    """A URI that cannot be read or written; the message names it."""


class Missing(StorageError):
    """There is no such bucket, object, file or kind of URI: asked again, the answer is the same."""


class Writer(Protocol):
    def write(self, data: bytes, /) -> Any: ...


def join(uri: str, name: str) -> str:
    return f"{uri.rstrip('/')}/{name}"


def size(uri: str) -> int:
    """Bytes of the object or file.

    Raises:
        StorageError: it is not there or may not be read.
    """
    with _told(uri):
        if place := _s3(uri):
            return _client().head_object(Bucket=place[0], Key=place[1])["ContentLength"]
        return _path(uri).stat().st_size


def read(uri: str, max_bytes: int) -> bytes:
    """The whole content, for small files.

    Raises:
        StorageError: it is not there, may not be read, or has more than `max_bytes`.
    """
    with opened(uri) as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise StorageError(f"{uri}: more than {max_bytes} bytes")
    return data


def fetch(uri: str, target: Path) -> None:
    """Copy the object or file to `target`; large objects come in parallel parts.

    Raises:
        StorageError: as `read`.
    """
    with _told(uri):
        if place := _s3(uri):
            _client().download_file(place[0], place[1], str(target))
        else:
            shutil.copyfile(_path(uri), target)


@contextlib.contextmanager
def opened(uri: str) -> Iterator[IO[bytes]]:
    """A stream to read once, front to back.

    Raises:
        StorageError: as `read`, also when the stream breaks inside the `with` block.
    """
    with _told(uri):
        if place := _s3(uri):
            body = _client().get_object(Bucket=place[0], Key=place[1])["Body"]
            with contextlib.closing(body):
                yield body  # type: ignore[misc]  # StreamingBody is an IOBase that reads bytes
        else:
            with _path(uri).open("rb") as file:
                yield file


def files(uri: str, suffix: str) -> list[str]:
    """URIs under the prefix or folder that end in `suffix`, at any depth, sorted; the URI itself where it ends so.

    Raises:
        StorageError: the prefix may not be listed or the folder is not there.
    """
    if uri.endswith(suffix):
        return [uri]
    with _told(uri):
        if place := _s3(uri):
            bucket, prefix = place
            pages = (
                _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix.rstrip('/')}/".lstrip("/"))
            )
            keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
            return sorted(f"s3://{bucket}/{key}" for key in keys if key.endswith(suffix))
        folder = _path(uri)
        if not folder.is_dir():
            raise Missing(f"{uri}: no such folder")
        return sorted(str(path) for path in folder.rglob(f"*{suffix}") if path.is_file())


@contextlib.contextmanager
def written(uri: str) -> Iterator[Writer]:
    """A stream to write; the object or file appears when the block ends well, complete, and not at all otherwise.

    Raises:
        StorageError: it cannot be written.
    """
    with _told(uri):
        if place := _s3(uri):
            upload = _Upload(*place)
            try:
                yield upload
                upload.complete()
            except BaseException:
                upload.abort()
                raise
        else:
            path = _path(uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                with partial.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)


class _Upload:
    """A multipart upload, begun with the first full part; less than one part is a single put."""

    def __init__(self, bucket: str, key: str) -> None:
        self._bucket, self._key = bucket, key
        self._upload = ""
        self._parts: list[CompletedPartTypeDef] = []
        self._rest = bytearray()

    def write(self, data: bytes, /) -> None:
        self._rest += data
        if len(self._rest) >= _PART_BYTES:
            self._send()

    def complete(self) -> None:
        if not self._upload:
            _client().put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._rest))
            return
        if self._rest:
            self._send()
        parts = {"Parts": self._parts}
        _client().complete_multipart_upload(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._upload,
            MultipartUpload=parts,  # type: ignore[arg-type]
        )

    def abort(self) -> None:
        """Parts of an upload that is neither completed nor aborted are paid for until a lifecycle rule ends them."""
        if self._upload:
            with contextlib.suppress(BotoCoreError, ClientError):
                _client().abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload)

    def _send(self) -> None:
        if not self._upload:
            self._upload = _client().create_multipart_upload(Bucket=self._bucket, Key=self._key)["UploadId"]
        number = len(self._parts) + 1
        answer = _client().upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload, PartNumber=number, Body=bytes(self._rest)
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._rest.clear()


@cache
def _client() -> S3Client:
    config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=60)
    return boto3.client("s3", config=config)


def _s3(uri: str) -> tuple[str, str] | None:
    """Bucket and key; None for a path."""
    if not uri.startswith("s3://"):
        return None
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise Missing(f"{uri}: no bucket; expected s3://bucket/key")
    return bucket, key


def _path(uri: str) -> Path:
    if uri.startswith("file://"):
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise Missing(f"{uri}: names the host {parts.netloc!r}; expected file:///path")
        return Path(unquote(parts.path))
    if "://" in uri:
        raise Missing(f"{uri}: expected s3://, file:// or a path")
    return Path(uri)


@contextlib.contextmanager
def _told(uri: str) -> Iterator[None]:
    """Every way to fail, as a StorageError that names the URI."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if words := {"404": "not there", "NoSuchKey": "not there", "NoSuchBucket": "no such bucket"}.get(code):
            raise Missing(f"{uri}: {words}") from error
        # Not final: EKS Pod Identity takes some seconds to give a new pod its role.
        raise StorageError(f"{uri}: {'access denied' if code == '403' else error}") from error
    except FileNotFoundError as error:
        raise Missing(f"{uri}: {error.strerror}") from error
    except OSError as error:
        raise StorageError(f"{uri}: {error.strerror or error}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError(f"{uri}: {error}") from error
