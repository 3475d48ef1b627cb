"""AWS says no, too late, or nothing at all; or what it holds is not as it was left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.api.cluster import until
from tests.api.operator_process import Operator
from tests.api.proxy import Fault
from tests.volumes.aws_proxy import AWSProxy, Call
from tests.volumes.crashes import QUICK
from tests.volumes.storage import VOLUMES, Storage

pytestmark = pytest.mark.api

CLAIMS = "/api/v1/namespaces/{namespace}/persistentvolumeclaims"
CALLS = (
    "CreateFileSystem",
    "DescribeFileSystems",
    "CreateDataRepositoryAssociation",
    "DescribeDataRepositoryAssociations",
    "UpdateDataRepositoryAssociation",
    "CreateDataRepositoryTask",
    "DescribeDataRepositoryTasks",
    "DeleteFileSystem",
)


class Trouble:
    """Lets the first calls of every action fail, and counts them."""

    def __init__(self, fault: Fault, times: int) -> None:
        self._fault, self._times = fault, times
        self.met: dict[str, int] = {}

    def __call__(self, call: Call) -> Fault | None:
        self.met[call.action] = self.met.get(call.action, 0) + 1
        return self._fault if call.action in CALLS and self.met[call.action] <= self._times else None


@pytest.fixture
def proxy(storage: Storage) -> Iterator[AWSProxy]:
    with AWSProxy(storage.aws.endpoint) as made:
        yield made


@pytest.fixture
def operator(replica: Callable[[str], Operator], proxy: AWSProxy) -> Operator:
    made = replica("operator-0")
    made.settings |= {"AWS_ENDPOINT_URL": proxy.endpoint, **QUICK}
    made.start_and_lead()
    return made


def exported(storage: Storage) -> bytes:
    return bytes(storage.s3.get_object(Bucket=storage.bucket, Key="out/model.bin")["Body"].read())


def fill(storage: Storage) -> str:
    """An available volume with a file in its exported folder that S3 does not have. Returns its file system's id."""
    storage.create(repositories=[storage.repository("/out", exportEvents=["Deleted"])])
    identity = str(storage.wait_phase("Available")["fileSystemId"])
    (storage.aws.files(identity) / "out/model.bin").write_bytes(b"weights")
    return identity


def touch(storage: Storage) -> None:
    """Have the operator look at a volume at rest."""
    storage.cluster.call("PATCH", f"{VOLUMES}/data", {"metadata": {"labels": {"touched": "yes"}}})


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        # boto3 itself tries three times, but not after half an answer
        pytest.param(Fault(answer=(400, "ThrottlingException")), 4, id="throttled"),
        pytest.param(Fault(answer=(500, "InternalServerError")), 4, id="broken"),
        pytest.param(Fault(cut="middle"), 2, id="cut"),
    ],
)
def test_every_call_may_fail_several_times_and_a_whole_life_comes_to_its_end(
    storage: Storage, operator: Operator, proxy: AWSProxy, fault: Fault, times: int
) -> None:
    trouble = proxy.fault = Trouble(fault, times)
    fill(storage)
    storage.delete()
    storage.wait_gone(seconds=90)
    assert set(CALLS) <= set(trouble.met), trouble.met
    made = [
        call.answer["FileSystem"]["FileSystemId"]
        for call in proxy.calls
        if call.what.startswith("CreateFileSystem") and call.answer
    ]
    assert len(set(made)) == 1
    assert exported(storage) == b"weights"
    assert storage.file_systems() == []


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (Fault(answer=(400, "ThrottlingException")), "CloudThrottled", "ThrottlingException"),
        (Fault(cut="before"), "CloudUnreachable", "ConnectionClosedError"),
    ],
)
def test_an_aws_that_does_not_answer_is_told_while_it_lasts_and_no_longer(
    storage: Storage, operator: Operator, proxy: AWSProxy, fault: Fault, reason: str, words: str
) -> None:
    storage.create()
    storage.wait_phase("Available")
    proxy.fault = lambda call: fault
    touch(storage)
    status = storage.wait_reason(reason)
    assert status["phase"] == "Available", "what is mounted stays mounted"
    assert words in storage.condition("Stalled")["message"]
    proxy.fault = lambda call: None
    storage.wait_reason("FileSystemAvailable")
    assert storage.condition("Stalled")["status"] == "False"


def test_an_aws_that_cannot_be_reached_at_the_start_is_waited_for(
    storage: Storage, operator: Operator, proxy: AWSProxy
) -> None:
    operator.kill()
    proxy.fault = lambda call: Fault(cut="before")
    operator.start()
    storage.create()
    storage.wait_reason("CloudUnreachable")
    assert storage.condition("Stalled")["status"] == "True"
    assert storage.condition("FileSystemAvailable")["reason"] == "CloudUnreachable"
    proxy.fault = lambda call: None
    storage.wait_phase("Available")
    assert storage.condition("Stalled")["status"] == "False"


def test_a_limit_of_the_account_is_told_in_its_words_and_tried_again(
    storage: Storage, operator: Operator, proxy: AWSProxy
) -> None:
    storage.aws.control.fault("fsx", "CreateFileSystem", "ServiceLimitExceeded", "10 of 10 file systems are used", times=2)
    storage.create()
    storage.wait_reason("CloudRefused")
    assert "ServiceLimitExceeded: 10 of 10 file systems are used" in storage.condition("Stalled")["message"]
    storage.wait_phase("Available")
    assert len(storage.file_systems()) == 1


def test_a_file_system_that_failed_is_told_in_awss_words_and_goes_with_its_volume(storage: Storage, operator: Operator) -> None:
    storage.aws.control.configure({"fsx.createSeconds": 60})
    try:
        storage.create(repositories=[storage.repository("/out", exportEvents=["New"])])
        until(storage.file_systems, storage.status)
        storage.aws.control.fail(storage.file_systems()[0]["FileSystemId"], "insufficient capacity in the zone")
        status = storage.wait_phase("Failed")
        assert status["reason"] == "FileSystemFailed"
        assert "insufficient capacity in the zone" in storage.condition("FileSystemAvailable")["message"]
    finally:
        storage.aws.control.configure({"fsx.createSeconds": 0.5})
    storage.delete()
    storage.wait_gone()
    assert storage.file_systems() == []


def test_a_file_system_deleted_behind_our_back_is_missed_and_not_made_again(
    storage: Storage, operator: Operator, proxy: AWSProxy
) -> None:
    storage.create()
    identity = storage.wait_phase("Available")["fileSystemId"]
    storage.fsx.delete_file_system(FileSystemId=identity)
    until(lambda: not storage.file_systems(), storage.file_systems)
    status = storage.wait_phase("Failed")
    assert status["reason"] == "FileSystemNotFound"
    assert identity in storage.condition("FileSystemAvailable")["message"]
    operator.kill()  # nor by an operator that remembers nothing
    operator.start_and_lead()
    looked = len(proxy.calls)
    until(lambda: len(proxy.calls) > looked, operator.log)
    assert [call.action for call in proxy.changes()] == ["CreateFileSystem"]
    storage.delete()
    storage.wait_gone()


def unseen(call: Call) -> Fault | None:
    """AWS answers as if it knew no file system of this id."""
    return Fault(answer=(400, "FileSystemNotFound")) if "FileSystemIds" in call.parameters else None


def test_an_aws_that_shows_no_file_system_for_a_while_neither_fails_a_volume_nor_lets_it_go(
    storage: Storage, operator: Operator, proxy: AWSProxy
) -> None:
    fill(storage)
    (system,) = storage.file_systems()
    storage.fsx.untag_resource(ResourceARN=system["ResourceARN"], TagKeys=["penstock.dev/volume"])  # nor one of this tag
    proxy.fault = unseen
    touch(storage)
    assert storage.wait_reason("FileSystemNotFound")["phase"] == "Pending"
    proxy.fault = lambda call: None
    storage.wait_phase("Available")
    proxy.fault = unseen
    storage.delete()
    storage.wait_reason("FileSystemNotFound")
    proxy.fault = lambda call: None
    storage.wait_gone()
    assert exported(storage) == b"weights"
    assert storage.file_systems() == []


def test_an_operator_in_another_region_lets_no_file_system_go(
    storage: Storage, operator: Operator, replica: Callable[[str], Operator]
) -> None:
    fill(storage)
    assert (storage.status()["region"], len(storage.status()["account"])) == ("us-east-1", 12)
    operator.kill()
    stranger = replica("operator-1")
    stranger.settings |= {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    stranger.start_and_lead()
    assert storage.wait_reason("FileSystemElsewhere")["phase"] == "Available", "what is mounted stays mounted"
    storage.delete()
    storage.wait_phase("Deleting")
    storage.wait_reason("FileSystemElsewhere")
    assert "is in region us-east-1, and the operator asks in eu-west-1" in storage.condition("Stalled")["message"]
    stranger.kill()
    operator.start_and_lead()
    storage.wait_gone()
    assert exported(storage) == b"weights"
    assert storage.file_systems() == []


def test_what_aws_refused_to_make_is_not_waited_for(storage: Storage, operator: Operator) -> None:
    storage.aws.control.fault("fsx", "CreateFileSystem", "BadRequest", "no such subnet", times=100)
    storage.create()
    storage.wait_reason("CloudRefused")
    storage.delete()
    storage.wait_gone(seconds=3)


@pytest.mark.parametrize("kind", ["fails", "has failed files"])
def test_an_export_that_is_not_whole_deletes_nothing_and_is_tried_again(
    storage: Storage, operator: Operator, proxy: AWSProxy, kind: str
) -> None:
    identity = fill(storage)
    control = storage.aws.control
    try:
        if kind == "fails":
            control.configure({"fsx.taskSeconds": 60})
            storage.delete()
            until(lambda: storage.status().get("export", {}).get("taskId"), storage.status)
            control.fail(storage.status()["export"]["taskId"], "the bucket does not let us in")
            words = "the bucket does not let us in"
        else:
            control.configure({"fsx.failPaths": ["out/*"]})
            storage.delete()
            words = "1 of 1 files failed"
        storage.wait_reason("ExportFailed")
        assert words in storage.condition("Exported")["message"]
        assert "Retain" in storage.condition("Stalled")["message"]
        tasks = [call for call in proxy.changes() if call.action == "CreateDataRepositoryTask"]
        assert (storage.aws.files(identity) / "out/model.bin").exists()
        assert "DeleteFileSystem" not in [call.action for call in proxy.changes()]
    finally:
        control.configure({"fsx.taskSeconds": 0.2, "fsx.failPaths": []})
    storage.wait_gone()
    tokens = [call.what for call in proxy.changes() if call.action == "CreateDataRepositoryTask"]
    assert len(set(tokens)) > len({call.what for call in tasks})
    assert exported(storage) == b"weights"
    assert storage.file_systems() == []


def test_retain_lets_a_volume_go_whose_export_fails(storage: Storage, operator: Operator, proxy: AWSProxy) -> None:
    identity = fill(storage)
    storage.aws.control.configure({"fsx.failPaths": ["out/*"]})
    try:
        storage.delete()
        storage.wait_reason("ExportFailed")
        storage.patch({"reclaimPolicy": "Retain"})
        storage.wait_gone()
    finally:
        storage.aws.control.configure({"fsx.failPaths": []})
    assert (storage.aws.files(identity) / "out/model.bin").read_bytes() == b"weights"
    assert "DeleteFileSystem" not in [call.action for call in proxy.changes()]


def test_a_link_that_was_lost_deletes_nothing(storage: Storage, operator: Operator, proxy: AWSProxy) -> None:
    fill(storage)
    storage.aws.control.fail(storage.status()["repositories"][0]["associationId"], "the bucket is gone", "MISCONFIGURED")
    storage.delete()
    storage.wait_reason("ExportFailed")
    message = storage.condition("Exported")["message"]
    assert f"/out -> s3://{storage.bucket}/out/: the bucket is gone" in message
    assert "DeleteFileSystem" not in [call.action for call in proxy.changes()]
    storage.patch({"reclaimPolicy": "Retain"})
    storage.wait_gone()


@pytest.mark.parametrize(("bucket", "reason"), [("refuse", "CloudRefused"), ("misconfigured", "LinkFailed")])
def test_a_missing_bucket_is_named_and_its_volume_can_go_at_once(
    storage: Storage, operator: Operator, proxy: AWSProxy, bucket: str, reason: str
) -> None:
    storage.aws.control.configure({"fsx.badBucket": bucket})
    try:
        storage.create(repositories=[{"path": "/out", "s3": "s3://no-such-bucket-0/out/", "exportEvents": ["New"]}])
        storage.wait_reason(reason)
        assert "/out -> s3://no-such-bucket-0/out/" in storage.condition("Stalled")["message"]
    finally:
        storage.aws.control.configure({"fsx.badBucket": "refuse"})
    assert storage.claim() is None, "what pods write now would be exported nowhere"
    storage.delete()
    storage.wait_gone()
    assert storage.file_systems() == []


def test_a_volume_heals_when_its_bucket_appears(storage: Storage, operator: Operator) -> None:
    late = f"{storage.bucket}-late"
    storage.create(repositories=[{"path": "/images", "s3": f"s3://{late}/images/"}, storage.repository("/out")])
    storage.wait_reason("CloudRefused")
    storage.s3.create_bucket(Bucket=late)
    storage.wait_phase("Available")
    assert [row["lifecycle"] for row in storage.status()["repositories"]] == ["AVAILABLE", "AVAILABLE"]


def test_a_bucket_that_went_and_came_again_is_linked_again(storage: Storage, operator: Operator, proxy: AWSProxy) -> None:
    storage.create(repositories=[storage.repository("/images")])
    storage.wait_phase("Available")
    storage.s3.delete_bucket(Bucket=storage.bucket)
    storage.wait_reason("LinkFailed")
    assert f"s3://{storage.bucket}/images/" in storage.condition("RepositoriesLinked")["message"]
    storage.s3.create_bucket(Bucket=storage.bucket)
    storage.wait_phase("Available")
    tokens = {call.what for call in proxy.changes() if call.action == "CreateDataRepositoryAssociation"}
    assert len(tokens) > 1, "the old token would have brought back the link that failed"


def test_a_claim_of_that_name_that_is_not_ours_is_told_and_left_alone(storage: Storage, operator: Operator) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "other"}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim}
    made = storage.cluster.call("POST", CLAIMS, body)
    storage.create()
    storage.wait_reason("NameConflict")
    assert "PersistentVolumeClaim data" in storage.condition("Stalled")["message"]
    storage.delete()
    storage.wait_gone()
    found = storage.claim()
    assert found is not None
    assert (found["metadata"]["uid"], found["spec"]) == (made["metadata"]["uid"], made["spec"])


def test_a_claim_that_was_deleted_is_made_and_bound_again(storage: Storage, operator: Operator) -> None:
    storage.create()
    storage.wait_phase("Available")
    lost = (storage.claim() or {})["metadata"]["uid"]
    storage.cluster.call("DELETE", f"{CLAIMS}/data")
    until(lambda: ((storage.claim() or {}).get("metadata") or {}).get("uid") not in (None, lost), storage.claim)
    until(lambda: (storage.claim() or {}).get("status", {}).get("phase") == "Bound", storage.claim)
    storage.wait_phase("Available")
