"""A folder of a file system and a bucket that follow each other."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_local.aws import FakeAWS

Make = Callable[..., Any]
ALL = "NEW CHANGED DELETED"


def keys(s3: Any, bucket: str) -> set[str]:
    return {each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}


def content(s3: Any, bucket: str, key: str) -> bytes | None:
    try:
        body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None
    return body


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def described(fsx: Any, made: str) -> dict[str, Any]:
    found: dict[str, Any] = fsx.describe_data_repository_associations(AssociationIds=[made])["Associations"][0]
    return found


def test_existing_objects_are_files_when_the_association_is_available(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make
) -> None:
    for key in ("in/a.txt", "in/deep/er/b.txt", "in/folder/", "in/../c", "other/d"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    made = file_system()
    assert link(made)["Lifecycle"] == "AVAILABLE"
    root = aws.files(made)
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files == {"data/a.txt": b"in/a.txt", "data/deep/er/b.txt": b"in/deep/er/b.txt"}


def test_without_batch_import_the_tree_starts_empty_and_only_what_is_new_comes(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    s3.put_object(Bucket=bucket, Key="in/old", Body=b"old")
    made = file_system()
    link(made, imports="NEW", BatchImportMetaDataOnCreate=False)
    s3.put_object(Bucket=bucket, Key="in/new", Body=b"new")
    eventually(lambda: read(aws.files(made) / "data/new") == b"new", "imported")
    assert not (aws.files(made) / "data/old").exists()


def test_new_changed_and_deleted_objects_follow(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"1")
    made = file_system()
    link(made, imports=ALL)
    folder = aws.files(made) / "data"
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"2")
    s3.put_object(Bucket=bucket, Key="in/b/c", Body=b"3")
    eventually(lambda: (read(folder / "a"), read(folder / "b/c")) == (b"2", b"3"), "imported")
    s3.delete_object(Bucket=bucket, Key="in/a")
    eventually(lambda: not (folder / "a").exists(), "removed")


def test_only_the_events_of_the_policy_follow(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"1")
    made = file_system()
    link(made, imports="NEW")
    folder = aws.files(made) / "data"
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"2")
    s3.put_object(Bucket=bucket, Key="in/later", Body=b"3")
    eventually(lambda: read(folder / "later") == b"3", "imported")
    assert read(folder / "a") == b"1"


def test_written_changed_and_removed_files_are_exported(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    made = file_system()
    link(made, exports=ALL)
    folder = aws.files(made) / "data"
    (folder / "models").mkdir()
    (folder / "models/m.bin").write_bytes(b"1")
    eventually(lambda: content(s3, bucket, "in/models/m.bin") == b"1", "exported", 3)
    (folder / "models/m.bin").write_bytes(b"22")
    eventually(lambda: content(s3, bucket, "in/models/m.bin") == b"22", "exported again", 3)
    (folder / "models/m.bin").unlink()
    eventually(lambda: keys(s3, bucket) == set(), "removed", 3)


def test_a_file_that_is_still_written_is_not_exported(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    made = file_system()
    link(made, exports=ALL)
    folder = aws.files(made) / "data"
    (folder / "quiet").write_bytes(b"x")
    with (folder / "busy").open("ab", buffering=0) as busy:

        def exported() -> bool:
            busy.write(b"more")
            return "in/quiet" in keys(s3, bucket)

        eventually(exported, "the quiet file is exported", 5)
        assert "in/busy" not in keys(s3, bucket)
    eventually(lambda: content(s3, bucket, "in/busy") == (folder / "busy").read_bytes(), "the busy one after it was closed")


def test_both_ways_do_not_echo(aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make) -> None:
    s3.put_object(Bucket=bucket, Key="in/from-s3", Body=b"1")
    made = file_system()
    link(made, imports=ALL, exports=ALL)
    folder = aws.files(made) / "data"
    before = s3.head_object(Bucket=bucket, Key="in/from-s3")["LastModified"], (folder / "from-s3").stat().st_ino
    (folder / "from-fs").write_bytes(b"2")
    own = (folder / "from-fs").stat().st_ino
    eventually(lambda: content(s3, bucket, "in/from-fs") == b"2", "exported")
    s3.put_object(Bucket=bucket, Key="in/mark", Body=b"m")
    eventually(lambda: read(folder / "mark") == b"m", "a later import")
    assert (s3.head_object(Bucket=bucket, Key="in/from-s3")["LastModified"], (folder / "from-s3").stat().st_ino) == before
    assert s3.head_object(Bucket=bucket, Key="in/from-s3")["Metadata"] == {}
    assert (folder / "from-fs").stat().st_ino == own


def test_modes_travel_with_the_objects(
    aws: FakeAWS, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make
) -> None:
    first, second = file_system(), file_system()
    link(first, exports=ALL)
    path = aws.files(first) / "data/run.sh"
    path.write_bytes(b"#!")
    path.chmod(0o640)
    eventually(lambda: "in/run.sh" in keys(s3, bucket), "exported")
    metadata = s3.head_object(Bucket=bucket, Key="in/run.sh")["Metadata"]
    assert (metadata["file-permissions"], metadata["user-agent"]) == ("0100640", "aws-fsx-lustre")
    link(second)
    assert (aws.files(second) / "data/run.sh").stat().st_mode & 0o777 == 0o640


def test_a_file_system_works_on_one_association_at_a_time(
    aws: FakeAWS, fsx: Any, bucket: str, file_system: Make, eventually: Make
) -> None:
    made = file_system()
    aws.control.configure({"fsx.associationSeconds": 0.5})
    links = [
        fsx.create_data_repository_association(
            FileSystemId=made, FileSystemPath=f"/{each}", DataRepositoryPath=f"s3://{bucket}/{each}"
        )["Association"]["AssociationId"]
        for each in ("a", "b")
    ]
    eventually(lambda: described(fsx, links[0])["Lifecycle"] == "AVAILABLE", "the first")
    assert described(fsx, links[1])["Lifecycle"] == "CREATING"
    eventually(lambda: described(fsx, links[1])["Lifecycle"] == "AVAILABLE", "the second")


def test_a_token_makes_one_association(fsx: Any, bucket: str, file_system: Make, refused: Make) -> None:
    request = {"FileSystemId": file_system(), "DataRepositoryPath": f"s3://{bucket}", "ClientRequestToken": str(uuid.uuid4())}
    made = fsx.create_data_repository_association(**request)["Association"]["AssociationId"]
    assert fsx.create_data_repository_association(**request)["Association"]["AssociationId"] == made
    error = refused(fsx.create_data_repository_association, **request, FileSystemPath="/x")
    assert (error["Code"], error["Parameter"]) == ("IncompatibleParameterError", "FileSystemPath")


@pytest.mark.parametrize(
    ("path", "repository", "message"),
    [
        ("/data/deeper", "s3://{}/other", "The file system path /data/deeper overlaps"),
        ("/", "s3://{}/other", '"/" can be the file system path of the first and only'),
        ("/other", "s3://{}/in/deeper/", "overlaps with that of association"),
        ("/other", "s3://{}", "overlaps with that of association"),
        ("other", "s3://{}/other", "must be absolute"),
        ("/a/../b", "s3://{}/other", "must be absolute"),
        ("/other", "https://{}/other", "must be s3://bucket/prefix"),
    ],
)
def test_an_association_that_collides_or_is_no_path_is_refused(
    fsx: Any, bucket: str, file_system: Make, link: Make, refused: Make, path: str, repository: str, message: str
) -> None:
    made = file_system()
    link(made)
    request = {"FileSystemPath": path, "DataRepositoryPath": repository.format(bucket)}
    error = refused(fsx.create_data_repository_association, FileSystemId=made, **request)
    assert error["Code"] == "BadRequest"
    assert message in error["Message"]


def test_a_neighbour_with_the_same_beginning_is_no_overlap(file_system: Make, link: Make, bucket: str) -> None:
    made = file_system()
    link(made)
    assert link(made, FileSystemPath="/data2", DataRepositoryPath=f"s3://{bucket}/in2")["Lifecycle"] == "AVAILABLE"


def test_there_are_eight_at_most_and_they_come_in_pages(fsx: Any, bucket: str, file_system: Make, refused: Make) -> None:
    made = file_system()
    requests = [{"FileSystemId": made, "FileSystemPath": f"/{n}", "DataRepositoryPath": f"s3://{bucket}/{n}"} for n in range(9)]
    for request in requests[:8]:
        fsx.create_data_repository_association(**request)
    assert "the maximum is 8" in refused(fsx.create_data_repository_association, **requests[8])["Message"]
    chosen: dict[str, Any] = {"Filters": [{"Name": "file-system-id", "Values": [made]}], "MaxResults": 5}
    first = fsx.describe_data_repository_associations(**chosen)
    second = fsx.describe_data_repository_associations(**chosen, NextToken=first["NextToken"])
    assert (len(first["Associations"]), len(second["Associations"]), "NextToken" in second) == (5, 3, False)
    assert refused(fsx.describe_data_repository_associations, NextToken="AAAA")["Code"] == "BadRequest"


def test_a_bucket_that_is_missing_or_in_another_region_is_refused(
    aws: FakeAWS, fsx: Any, file_system: Make, refused: Make
) -> None:
    foreign = f"test-{uuid.uuid4().hex[:12]}"
    place = {"LocationConstraint": "eu-west-1"}
    aws.client("s3", region="eu-west-1").create_bucket(Bucket=foreign, CreateBucketConfiguration=place)
    made = file_system()
    for bucket in (foreign, "no-such-bucket-at-all"):
        error = refused(fsx.create_data_repository_association, FileSystemId=made, DataRepositoryPath=f"s3://{bucket}/")
        assert error["Code"] == "BadRequest"
        assert error["Message"].startswith("Amazon FSx is unable to validate access to the S3 bucket.")


def test_or_it_makes_a_misconfigured_association_that_an_update_heals(
    aws: FakeAWS, fsx: Any, s3: Any, file_system: Make, link: Make, eventually: Make
) -> None:
    aws.control.configure({"fsx.badBucket": "misconfigured"})
    missing, made = f"test-{uuid.uuid4().hex[:12]}", file_system()
    found = link(made, DataRepositoryPath=f"s3://{missing}/")
    assert found["Lifecycle"] == "MISCONFIGURED"
    assert found["FailureDetails"]["Message"].startswith("Amazon FSx is unable to validate access")
    s3.create_bucket(Bucket=missing)
    s3.put_object(Bucket=missing, Key="a", Body=b"1")
    fsx.update_data_repository_association(AssociationId=found["AssociationId"])
    eventually(lambda: described(fsx, found["AssociationId"])["Lifecycle"] == "AVAILABLE", "healed")
    assert "FailureDetails" not in described(fsx, found["AssociationId"])
    assert read(aws.files(made) / "data/a") == b"1"


def test_a_bucket_that_vanishes_ends_the_association(
    fsx: Any, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make, refused: Make
) -> None:
    made = link(file_system())["AssociationId"]
    s3.delete_bucket(Bucket=bucket)
    eventually(lambda: described(fsx, made)["Lifecycle"] == "FAILED", "FAILED")
    assert bucket in described(fsx, made)["FailureDetails"]["Message"]
    assert refused(fsx.update_data_repository_association, AssociationId=made)["Code"] == "BadRequest"


def test_it_can_be_misconfigured_on_request(aws: FakeAWS, fsx: Any, file_system: Make, link: Make) -> None:
    made = link(file_system())["AssociationId"]
    aws.control.fail(made, "event notifications were changed", "MISCONFIGURED")
    found = described(fsx, made)
    assert (found["Lifecycle"], found["FailureDetails"]["Message"]) == ("MISCONFIGURED", "event notifications were changed")


def test_an_update_changes_the_policies_it_names(fsx: Any, file_system: Make, link: Make, eventually: Make) -> None:
    made = link(file_system(), imports="NEW", exports=ALL)["AssociationId"]
    policies: dict[str, Any] = {"AutoExportPolicy": {"Events": []}}
    answer = fsx.update_data_repository_association(AssociationId=made, S3=policies)["Association"]
    assert answer["Lifecycle"] == "UPDATING"
    eventually(lambda: described(fsx, made)["Lifecycle"] == "AVAILABLE", "updated")
    assert described(fsx, made)["S3"] == {"AutoImportPolicy": {"Events": ["NEW"]}}


@pytest.mark.parametrize("remove", [True, False])
def test_deletion_unlinks_and_takes_the_data_where_asked(
    aws: FakeAWS, fsx: Any, s3: Any, bucket: str, file_system: Make, link: Make, eventually: Make, refused: Make, remove: bool
) -> None:
    s3.put_object(Bucket=bucket, Key="in/a/b", Body=b"1")
    made = file_system()
    association = link(made, exports=ALL)["AssociationId"]
    answer = fsx.delete_data_repository_association(AssociationId=association, DeleteDataInFileSystem=remove)
    assert answer["Lifecycle"] == "DELETING"
    own = {"Filters": [{"Name": "file-system-id", "Values": [made]}]}
    eventually(lambda: fsx.describe_data_repository_associations(**own)["Associations"] == [], "deleted")
    error = refused(fsx.describe_data_repository_associations, AssociationIds=[association])
    assert error["Code"] == "DataRepositoryAssociationNotFound"
    assert read(aws.files(made) / "data/a/b") == (None if remove else b"1")
    assert keys(s3, bucket) == {"in/a/b"}


def test_some_file_systems_cannot_be_linked(
    aws: FakeAWS, fsx: Any, bucket: str, request_of: Make, file_system: Make, refused: Make
) -> None:
    place = {"DataRepositoryPath": f"s3://{bucket}"}
    for changes in ({"DeploymentType": "SCRATCH_1"}, {"FileSystemTypeVersion": "2.10"}):
        error = refused(fsx.create_data_repository_association, FileSystemId=file_system(**changes), **place)
        assert error["Code"] == "UnsupportedOperation"
    aws.control.configure({"fsx.createSeconds": 60})
    creating = fsx.create_file_system(**request_of())["FileSystem"]["FileSystemId"]
    assert "is CREATING" in refused(fsx.create_data_repository_association, FileSystemId=creating, **place)["Message"]
    error = refused(fsx.create_data_repository_association, FileSystemId="fs-0123456789abcdef0", **place)
    assert error["Code"] == "FileSystemNotFound"
