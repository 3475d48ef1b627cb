"""A LustreVolume under a real job on real nodes: data from a bucket, a model back to it, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.bucket import Bucket
from tests.e2e.ring_cluster import Space

pytestmark = pytest.mark.e2e

READS_AND_WRITES = (
    'cat /data/images/one.txt && echo "model of rank $OMPI_COMM_WORLD_RANK" > /data/out/rank-$OMPI_COMM_WORLD_RANK'
)


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
    bucket = Bucket()
    bucket.write("images/one.txt", b"from the bucket\n")
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
    made = (space.target.get("lustrevolume", "data", space.name) or {})["status"]["fileSystemId"]
    assert made in bucket.file_systems()
    space.kubectl("delete", "tj", "digits")
    space.kubectl("delete", "lvol", "data", "--timeout=90s")
    assert made not in bucket.file_systems()
    assert space.target.kubectl("get", "pv", "-l", f"penstock.dev/volume-namespace={space.name}", "-o", "name") == ""


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
