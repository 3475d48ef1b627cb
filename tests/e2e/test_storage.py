"""A LustreVolume under a real job on real nodes: data from a bucket, a model back to it, and nothing left behind."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ring_cluster import Space, bring_up

from penstock_local.tools import Target

pytestmark = pytest.mark.e2e

READS_AND_WRITES = (
    'cat /data/images/one.txt && echo "model of rank $OMPI_COMM_WORLD_RANK" > /data/out/rank-$OMPI_COMM_WORLD_RANK'
)


@pytest.fixture(scope="module")
def target() -> Target:
    return bring_up()


@pytest.fixture
def space(target: Target) -> Iterator[Space]:
    made = Space(target)
    yield made
    made.drop()


class Bucket:
    """One bucket of the cluster's fake AWS."""

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

    def subnet(self, zone: str) -> str:
        found = self.client("ec2").describe_subnets(Filters=[{"Name": "availability-zone", "Values": [zone]}])
        return str(found["Subnets"][0]["SubnetId"])

    def folder(self, key: str) -> None:
        """A folder that user 1000 may write to, as FSx's import makes it from S3's metadata."""
        metadata = {"file-owner": "1000", "file-group": "1000", "file-permissions": "0040775"}
        self.s3.put_object(Bucket=self.name, Key=f"{key}/", Body=b"", Metadata=metadata)

    def read(self, key: str) -> bytes | None:
        try:
            return bytes(self.s3.get_object(Bucket=self.name, Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return None


def volume(bucket: Bucket, zone: str) -> dict[str, Any]:
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "LustreVolume",
        "metadata": {"name": "data"},
        "spec": {
            "create": {"subnetId": bucket.subnet(zone)},
            "repositories": [
                {"path": "/images", "s3": f"s3://{bucket.name}/images/"},
                {"path": "/out", "s3": f"s3://{bucket.name}/out/", "exportEvents": ["New", "Changed"]},
            ],
        },
    }


def test_a_job_reads_what_is_in_s3_and_what_it_writes_is_there_again_before_the_volume_goes(space: Space) -> None:
    bucket = Bucket(space)
    bucket.s3.put_object(Bucket=bucket.name, Key="images/one.txt", Body=b"from the bucket\n")
    bucket.folder("out")
    mounts = [{"name": "data", "mountPath": "/data", "lustreVolume": "data"}]
    space.run("digits", READS_AND_WRITES, volumes=mounts)
    space.wait("the job waits", lambda: space.status("digits").get("reason") == "VolumeNotFound")
    assert space.pods() == {}
    space.apply(volume(bucket, "us-east-1b"))
    space.wait_phase("digits", "Complete", seconds=90)
    assert space.logs("digits-launcher").count("from the bucket") == 2
    nodes = {pod["spec"]["nodeName"] for pod in space.pods().values()}
    zones = {space.target.get("node", node, "")["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes}  # type: ignore[index]
    assert zones == {"us-east-1b"}
    space.wait("the model is in S3", lambda: bucket.read("out/rank-1") == b"model of rank 1\n")
    listed = space.kubectl("get", "lvol,tj")
    assert "Available" in listed
    space.kubectl("delete", "tj", "digits")
    space.kubectl("delete", "lvol", "data", "--timeout=90s")
    assert bucket.client("fsx").describe_file_systems()["FileSystems"] == []
    assert space.target.kubectl("get", "pv", "-o", "name") == ""


def test_an_instance_type_fills_in_devices_and_the_workers_find_their_nodes(space: Space) -> None:
    # No node here has a p4d's CPU, memory and huge pages; its GPUs and EFA devices it has, by name and number.
    small = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"hugepages-2Mi": "0"}}
    workers = {"replicas": 2, "instanceType": "p4d.24xlarge", "resources": small}
    space.run("gpus", "echo slot $OMPI_COMM_WORLD_LOCAL_RANK of $OMPI_COMM_WORLD_LOCAL_SIZE", workers=workers)
    space.wait("workers run", lambda: len(space.pods("penstock.dev/role=worker")) == 2)
    for pod in space.pods("penstock.dev/role=worker").values():
        limits = pod["spec"]["containers"][0]["resources"]["limits"]
        assert (limits["nvidia.com/gpu"], limits["vpc.amazonaws.com/efa"]) == ("8", "4")
    space.wait_phase("gpus", "Complete", seconds=120)
    assert space.logs("gpus-launcher").count("of 8") == 16


def test_nine_gpus_of_eight_are_refused_with_the_numbers_and_no_pod(space: Space) -> None:
    nine = {"requests": {"cpu": "50m"}, "limits": {"nvidia.com/gpu": "9"}}
    space.run("nine", "true", workers={"replicas": 1, "instanceType": "p4d.24xlarge", "resources": nine})
    space.wait("it is refused", lambda: space.condition("nine", "Stalled")["status"] == "True")
    message = space.condition("nine", "Stalled")["message"]
    assert "9" in message
    assert "8" in message
    assert space.pods() == {}
