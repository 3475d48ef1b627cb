"""One bucket of the cluster's fake AWS."""

from __future__ import annotations

import uuid
from typing import Any

from tests.e2e.ring_cluster import cluster
from tests.local.fsx_volumes import client


class Bucket:
    """Empty at first."""

    def __init__(self) -> None:
        self.name = f"data-{uuid.uuid4().hex[:8]}"
        self.s3 = client(cluster(), "s3")
        self.s3.create_bucket(Bucket=self.name)

    def file_systems(self) -> set[str]:
        """The ids of all there are, of other tests too."""
        return {one["FileSystemId"] for one in client(cluster(), "fsx").describe_file_systems()["FileSystems"]}

    def subnet(self, zone: str) -> str:
        found = client(cluster(), "ec2").describe_subnets(Filters=[{"Name": "availability-zone", "Values": [zone]}])
        return str(found["Subnets"][0]["SubnetId"])

    def folder(self, key: str) -> None:
        """A folder that user 1000 may write to, as FSx's import makes it from S3's metadata."""
        metadata = {"file-owner": "1000", "file-group": "1000", "file-permissions": "0040775"}
        self.write(f"{key}/", b"", Metadata=metadata)

    def write(self, key: str, content: bytes, **about: Any) -> str:
        """Returns its URI."""
        self.s3.put_object(Bucket=self.name, Key=key, Body=content, **about)
        return f"s3://{self.name}/{key}"

    def read(self, key: str) -> bytes | None:
        try:
            return bytes(self.s3.get_object(Bucket=self.name, Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return None
