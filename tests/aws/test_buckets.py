"""S3 from inside the server: what is imported while clients write is what they wrote."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moto.s3.models import s3_backends

from penstock_local.aws import FakeAWS, buckets

Make = Callable[..., Any]


def test_objects_that_are_put_while_they_are_imported_are_whole_and_keep_their_etag(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    made = file_system()
    link(made, imports="NEW CHANGED")
    bodies = {f"{number:02}": os.urandom(400_000) for number in range(40)}

    def put(name: str) -> str:
        return str(s3.put_object(Bucket=bucket, Key=f"in/{name}", Body=bodies[name])["ETag"])

    with ThreadPoolExecutor(4) as pool:
        etags = dict(zip(bodies, pool.map(put, bodies), strict=True))
    assert etags == {name: f'"{hashlib.md5(body).hexdigest()}"' for name, body in bodies.items()}
    folder = aws.files(made) / "data"
    eventually(lambda: len(list(folder.iterdir())) == len(bodies), "all are imported")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bodies


def test_parts_copies_and_versions_are_imported_as_they_are_read(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make
) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    upload = {
        "Bucket": bucket,
        "Key": "in/parts",
        "UploadId": s3.create_multipart_upload(Bucket=bucket, Key="in/parts")["UploadId"],
    }
    bodies = [b"a" * 5_242_880, b"b"]
    tags = [s3.upload_part(**upload, PartNumber=n, Body=body)["ETag"] for n, body in enumerate(bodies, start=1)]
    parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, start=1)]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    s3.copy_object(Bucket=bucket, Key="in/copy", CopySource={"Bucket": bucket, "Key": "in/parts"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=bucket, Key="in/twice", Body=body)
        s3.put_object(Bucket=bucket, Key="in/gone", Body=body)
    s3.delete_object(Bucket=bucket, Key="in/gone")
    made = file_system()
    link(made)
    files = {path.name: path.read_bytes() for path in (aws.files(made) / "data").iterdir()}
    assert files == {"parts": b"".join(bodies), "copy": b"".join(bodies), "twice": b"2"}


def test_an_object_whose_put_is_not_answered_yet_is_not_there() -> None:
    account, name = "123456789012", f"test-{uuid.uuid4().hex[:12]}"
    backend = s3_backends[account]["aws"]  # in this process: its own S3, which no server shows
    backend.create_bucket(name, "us-east-1")
    stored = backend.put_object(name, "k", b"body")
    assert buckets.listing(account, name, "") == {}
    assert buckets.read(account, name, "k") is None
    etag = stored.etag.strip('"')  # what moto asks for to answer
    assert buckets.listing(account, name, "") == {"k": etag}
    assert buckets.read(account, name, "k") == buckets.Content(b"body", etag, {})
