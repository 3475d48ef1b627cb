"""One bucket of the cluster's fake AWS."""

from __future__ import annotations

import uuid
from typing import Any

import boto3
from tests.e2e.ring_cluster import Space


class Bucket:
    """Empty at first."""

    def __init__(self, space: Space) -> None:
        given = space.environment
        self._session = boto3.session.Session(
            given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], region_name=given["AWS_REGION"]
        )
        self._endpoint = given["AWS_ENDPOINT_URL"]
        self.name = f"data-{uuid.uuid4().hex[:8]}"
        self.s3 = self.client("s3")
        self.s3.create_bucket(Bucket=self.name)

    def client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self._endpoint)  # type: ignore[call-overload]

    def file_systems(self) -> set[str]:
        """The ids of all there are, of other tests too."""
        return {one["FileSystemId"] for one in self.client("fsx").describe_file_systems()["FileSystems"]}

    def subnet(self, zone: str) -> str:
        found = self.client("ec2").describe_subnets(Filters=[{"Name": "availability-zone", "Values": [zone]}])
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
