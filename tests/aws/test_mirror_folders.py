"""Folders of a bucket: an object that ends in a slash carries the mode and owner of its folder."""

from __future__ import annotations

import os
import time
import uuid

from penstock_local.aws import FakeAWS


def test_a_folder_object_gives_its_folder_mode_and_owner(aws: FakeAWS) -> None:
    s3, fsx, bucket = aws.client("s3"), aws.client("fsx"), f"folders-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    wanted = {"file-owner": str(os.getuid()), "file-group": str(os.getgid()), "file-permissions": "0040775"}
    for key in ("out/", "out/run-1/"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"", Metadata=wanted)
    subnet = aws.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    made = fsx.create_file_system(
        FileSystemType="LUSTRE",
        FileSystemTypeVersion="2.15",
        StorageCapacity=1200,
        SubnetIds=[subnet],
        LustreConfiguration={"DeploymentType": "SCRATCH_2"},
    )["FileSystem"]["FileSystemId"]
    until(lambda: fsx.describe_file_systems(FileSystemIds=[made])["FileSystems"][0]["Lifecycle"] == "AVAILABLE")
    fsx.create_data_repository_association(
        FileSystemId=made, FileSystemPath="/out/", DataRepositoryPath=f"s3://{bucket}/out/", BatchImportMetaDataOnCreate=True
    )
    folder = aws.files(made) / "out" / "run-1"
    until(folder.is_dir)
    until(lambda: folder.stat().st_mode & 0o777 == 0o775 and folder.parent.stat().st_mode & 0o777 == 0o775)


def until(condition: object, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
