"""A LustreVolume from apply to deletion, against a real API server and FSx over HTTP."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.api.cluster import Cluster, Refused, until
from tests.api.operator_process import Operator
from tests.volumes.storage import VOLUMES, Storage

pytestmark = pytest.mark.api


def test_a_volume_is_made_linked_and_bound(storage: Storage, operator: Operator) -> None:
    storage.s3.put_object(Bucket=storage.bucket, Key="images/one.png", Body=b"1")
    storage.create(repositories=[storage.repository()])
    status = storage.wait_phase("Available")
    (found,) = storage.file_systems()
    assert status["fileSystemId"] == found["FileSystemId"]
    assert status["mountName"] == found["LustreConfiguration"]["MountName"]
    assert status["zone"] == storage.subnet["AvailabilityZone"]
    assert found["FileSystemTypeVersion"] == "2.15"
    assert [one["lifecycle"] for one in status["repositories"]] == ["AVAILABLE"]
    persistent = storage.persistent_volume()
    assert persistent is not None
    assert persistent["spec"]["csi"] == {
        "driver": "fsx.csi.aws.com",
        "volumeHandle": found["FileSystemId"],
        "volumeAttributes": {"dnsname": found["DNSName"], "mountname": found["LustreConfiguration"]["MountName"]},
    }
    assert persistent["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert persistent["spec"]["mountOptions"] == ["flock"]
    assert (storage.claim() or {})["status"]["phase"] == "Bound"
    for kind in ("FileSystemAvailable", "RepositoriesLinked", "ClaimBound"):
        assert storage.condition(kind)["status"] == "True"


def test_aws_is_asked_within_a_second_of_the_apply(storage: Storage, operator: Operator) -> None:
    storage.create("first")
    storage.wait_phase("Available", "first")  # boto3 is loaded by the first volume of an operator's life
    before = storage.calls().count("CreateFileSystem")
    begun = time.monotonic()
    storage.create("second")
    until(lambda: storage.calls().count("CreateFileSystem") > before, storage.calls, 5)
    assert time.monotonic() - begun < 1.0


def test_a_volume_at_rest_writes_nothing(storage: Storage, operator: Operator) -> None:
    storage.create()
    storage.wait_phase("Available")
    operator.settle()
    writes, calls = operator.writes(), len(storage.calls())
    storage.cluster.call("PATCH", f"{VOLUMES}/data", {"metadata": {"labels": {"touched": "yes"}}})
    before = operator.reconciles()
    until(lambda: operator.reconciles() > before, operator.metrics)
    operator.settle()
    assert (operator.writes(), len(storage.calls())) == (writes, calls)


def test_deletion_exports_first_proves_it_and_then_deletes(storage: Storage, operator: Operator) -> None:
    storage.create(repositories=[storage.repository("/out", exportEvents=["New", "Changed"]), storage.repository("/images")])
    status = storage.wait_phase("Available")
    (storage.aws.files(status["fileSystemId"]) / "out/model.bin").write_bytes(b"weights")
    begun = len(storage.calls())
    storage.delete()
    storage.wait_gone()
    assert storage.s3.get_object(Bucket=storage.bucket, Key="out/model.bin")["Body"].read() == b"weights"
    assert storage.calls()[begun:] == ["UpdateDataRepositoryAssociation", "CreateDataRepositoryTask", "DeleteFileSystem"]
    assert storage.file_systems() == []


def test_a_failed_export_deletes_nothing_until_it_is_mended(storage: Storage, operator: Operator) -> None:
    storage.create(repositories=[storage.repository("/out", exportEvents=["New"])])
    storage.wait_phase("Available")
    storage.aws.control.fault("fsx", "CreateDataRepositoryTask", code="BadRequest", message="no", times=2)
    storage.delete()
    status = storage.wait_reason("CloudRefused")
    assert status["phase"] == "Deleting"
    assert "no" in storage.condition("Stalled")["message"]
    assert "DeleteFileSystem" not in storage.calls()
    storage.wait_gone()
    assert storage.file_systems() == []


def test_retained_a_file_system_stays_and_only_the_claim_goes(storage: Storage, operator: Operator) -> None:
    storage.create(reclaimPolicy="Retain")
    uid = (storage.volume() or {})["metadata"]["uid"]
    storage.wait_phase("Available")
    storage.delete()
    storage.wait_gone()
    assert len(storage.file_systems()) == 1
    assert storage.get(f"/api/v1/persistentvolumes/penstock-{uid}") is None
    assert storage.claim() is None


def test_an_adopted_file_system_is_mounted_and_never_deleted(storage: Storage, operator: Operator) -> None:
    made = storage.fsx.create_file_system(
        FileSystemType="LUSTRE",
        StorageCapacity=1200,
        SubnetIds=[storage.subnet["SubnetId"]],
        LustreConfiguration={"DeploymentType": "SCRATCH_2"},
    )["FileSystem"]["FileSystemId"]
    storage.create(fileSystemId=made)
    uid = (storage.volume() or {})["metadata"]["uid"]
    storage.wait_phase("Available")
    assert "finalizers" not in (storage.volume() or {})["metadata"], "nothing is paid for here"
    before = storage.calls().count("DeleteFileSystem")
    storage.delete()
    storage.wait_gone()
    until(lambda: storage.get(f"/api/v1/persistentvolumes/penstock-{uid}") is None, lambda: "the PersistentVolume stays")
    assert storage.calls().count("DeleteFileSystem") == before
    assert storage.fsx.describe_file_systems(FileSystemIds=[made])["FileSystems"]


def test_volumes_that_adopt_one_file_system_leave_each_others_links_alone_and_take_their_own_away(
    storage: Storage, operator: Operator
) -> None:
    storage.create("owner", repositories=[storage.repository("/out", exportEvents=["New"])])
    made = storage.wait_phase("Available", "owner")["fileSystemId"]
    mine: Any = [{"Name": "file-system-id", "Values": [made]}]

    def links() -> dict[str, Any]:
        found = storage.fsx.describe_data_repository_associations(Filters=mine)["Associations"]
        return {one["FileSystemPath"]: one["S3"].get("AutoExportPolicy") for one in found}

    own = storage.repository("/run", exportEvents=["Deleted"])
    storage.create("guest", fileSystemId=made, repositories=[storage.repository("/out"), own])
    storage.wait_phase("Available", "guest")
    assert "finalizers" in (storage.volume("guest") or {})["metadata"], "its link is to be taken away"
    assert links() == {"/out/": {"Events": ["NEW"]}, "/run/": {"Events": ["DELETED"]}}
    (storage.aws.files(made) / "run/model.bin").write_bytes(b"weights")
    storage.delete("guest")
    storage.wait_gone("guest")
    assert links() == {"/out/": {"Events": ["NEW"]}}
    assert storage.s3.get_object(Bucket=storage.bucket, Key="run/model.bin")["Body"].read() == b"weights"
    assert (storage.aws.files(made) / "run/model.bin").exists(), "the files stay"
    storage.delete("owner")
    storage.wait_gone("owner")
    assert storage.file_systems() == []


def test_a_repository_whose_bucket_is_misspelt_is_corrected_or_removed_and_a_linked_one_is_not(
    storage: Storage, operator: Operator
) -> None:
    storage.create(repositories=[storage.repository("/images")])
    storage.wait_phase("Available")
    wrong = {"path": "/out", "s3": f"s3://{storage.bucket}-misspelt/out/"}
    storage.patch({"repositories": [storage.repository("/images"), wrong]})
    storage.wait_reason("CloudRefused")
    with pytest.raises(Refused, match="cannot be removed"):
        storage.patch({"repositories": [wrong]})
    storage.patch({"repositories": [storage.repository("/images"), storage.repository("/out")]})
    storage.wait_phase("Available")
    until(lambda: [row["lifecycle"] for row in storage.status()["repositories"]] == ["AVAILABLE"] * 2, storage.status)
    storage.patch({"repositories": [storage.repository("/images"), storage.repository("/out"), {**wrong, "path": "/more"}]})
    storage.wait_reason("CloudRefused")
    storage.patch({"repositories": [storage.repository("/images"), storage.repository("/out")]})
    storage.wait_phase("Available")


def test_a_volume_that_a_job_uses_is_not_deleted_before_the_job_is(
    storage: Storage, operator: Operator, cluster: Cluster
) -> None:
    storage.create()
    storage.wait_phase("Available")
    cluster.create_job("digits", volumes=[{"name": "data", "mountPath": "/data", "lustreVolume": "data"}])
    until(lambda: storage.status().get("usedBy") == ["digits"], storage.volume)
    cluster.wait_phase("digits", "WaitingForWorkers")
    storage.delete()
    storage.wait_reason("InUse")
    assert "digits" in storage.condition("Reconciling")["message"]
    assert "DeleteFileSystem" not in storage.calls()[-1:]
    cluster.call("DELETE", "/apis/penstock.dev/v1alpha1/namespaces/{namespace}/trainingjobs/digits")
    storage.wait_gone()
    assert storage.file_systems() == []


def test_a_job_that_only_waits_does_not_keep_a_volume(storage: Storage, operator: Operator, cluster: Cluster) -> None:
    storage.create()
    storage.wait_phase("Available")
    mounts = [{"name": "data", "mountPath": "/data", "lustreVolume": "data"}]
    cluster.create_job("digits", volumes=mounts, runPolicy={"suspend": True})
    cluster.wait_phase("digits", "Suspended")
    storage.delete()
    storage.wait_gone()
    assert storage.file_systems() == []


def test_everything_made_in_aws_carries_the_volumes_tag(storage: Storage, operator: Operator) -> None:
    storage.create(repositories=[storage.repository("/out", exportEvents=["New"])])
    storage.wait_phase("Available")
    tag = {"Key": "penstock.dev/volume", "Value": (storage.volume() or {})["metadata"]["uid"]}
    (system,) = storage.file_systems()
    mine: Any = [{"Name": "file-system-id", "Values": [system["FileSystemId"]]}]
    (association,) = storage.fsx.describe_data_repository_associations(Filters=mine)["Associations"]
    assert tag in association["Tags"]
    assert tag in system["Tags"]
    storage.delete()
    storage.wait_gone()
    tasks = storage.aws.control.calls("fsx", "CreateDataRepositoryTask")
    assert tasks[-1]["parameters"]["Tags"] == [tag]


def test_a_claim_that_is_refused_is_told_in_the_words_of_the_api_server(
    storage: Storage, operator: Operator, cluster: Cluster
) -> None:
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    named = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": cluster.namespace}}
    claims = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["persistentvolumeclaims"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}
    refusal = {"expression": "false", "message": "this team has had its storage"}
    constraints = {"resourceRules": [claims], "namespaceSelector": here}
    policy = {"matchConstraints": constraints, "validations": [refusal]}
    binding = {"policyName": cluster.namespace, "validationActions": ["Deny"]}
    cluster.call("POST", policies, {**named, "kind": "ValidatingAdmissionPolicy", "spec": policy})
    cluster.call("POST", f"{policies[:-3]}ybindings", {**named, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding})
    until(lambda: refused(cluster), lambda: "the policy does not take effect")
    storage.create()
    storage.wait_reason("ClaimRefused")
    assert "this team has had its storage" in storage.condition("Stalled")["message"]
    cluster.call("DELETE", f"{policies[:-3]}ybindings/{cluster.namespace}")
    storage.wait_phase("Available")


def refused(cluster: Cluster) -> bool:
    """Whether a claim is refused by now: an admission policy takes effect a moment after it was made."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "probe"}, "spec": spec}
    try:
        cluster.call("POST", "/api/v1/namespaces/{namespace}/persistentvolumeclaims?dryRun=All", body)
    except Refused:
        return True
    return False


def test_no_pod_is_asked_for_before_the_storage_is_there(storage: Storage, operator: Operator, cluster: Cluster) -> None:
    cluster.create_job("digits", volumes=[{"name": "data", "mountPath": "/data", "lustreVolume": "data"}])
    until(lambda: cluster.job("digits").get("status", {}).get("reason") == "VolumeNotFound", lambda: cluster.job("digits"))
    storage.aws.control.configure({"fsx.createSeconds": 3})
    try:
        storage.create()
        cluster.wait_phase("digits", "WaitingForStorage")
        assert cluster.pods("digits") == []
    finally:
        storage.aws.control.configure({"fsx.createSeconds": 0.5})
    until(lambda: len(cluster.pods("digits", "worker")) == 2, lambda: cluster.job("digits"))
    for pod in cluster.pods("digits"):
        assert pod["spec"]["nodeSelector"] == {"topology.kubernetes.io/zone": storage.subnet["AvailabilityZone"]}
        assert {"name": "data", "persistentVolumeClaim": {"claimName": "data"}} in pod["spec"]["volumes"]
    conditions = {one["type"]: one["status"] for one in cluster.job("digits")["status"]["conditions"]}
    assert conditions["StorageReady"] == "True"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"create": {"storageCapacityGiB": 3000}}, ["storageCapacityGiB", "multiple of 2400"]),
        ({"create": {"storageCapacityGiB": 1199}}, ["storageCapacityGiB", "1200"]),
        ({"create": {"deploymentType": "Persistent2"}}, ["throughputPerTiB", "required"]),
        ({"create": {"throughputPerTiB": 125}}, ["throughputPerTiB", "Scratch2"]),
        ({"create": {"efa": True}}, ["efa", "Persistent2"]),
        (
            {
                "create": {
                    "efa": True,
                    "deploymentType": "Persistent2",
                    "throughputPerTiB": 500,
                    "storageCapacityGiB": 4800,
                }
            },
            ["9600"],
        ),
        ({"fileSystemId": "fs-1"}, ["fileSystemId"]),
        ({"repositories": [{"path": "images", "s3": "s3://bucket/x"}]}, ["path"]),
        ({"repositories": [{"path": "/images", "s3": "bucket/x"}]}, ["s3"]),
        (
            {"repositories": [{"path": "/a", "s3": "s3://bucket/x"}, {"path": "/a/b", "s3": "s3://bucket/y"}]},
            ["spec.repositories", "one folder lies in another"],
        ),
        ({"repositories": [{"path": "/", "s3": "s3://bucket/x"}, {"path": "/b", "s3": "s3://bucket/y"}]}, ["lies in another"]),
        (
            {"repositories": [{"path": "/a", "s3": "s3://bucket/x"}, {"path": "/a/", "s3": "s3://bucket/y"}]},
            ["lies in another"],
        ),
    ],
)
def test_what_aws_would_refuse_is_refused_at_apply(storage: Storage, spec: dict[str, object], words: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        storage.create(**spec)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_what_aws_cannot_change_cannot_be_changed(storage: Storage) -> None:
    storage.create(repositories=[storage.repository("/a"), storage.repository("/ab")])
    rows = [{"path": "/a", "lifecycle": "AVAILABLE"}, {"path": "/ab", "lifecycle": "UPDATING"}]
    storage.cluster.call("PATCH", f"{VOLUMES}/data/status", {"status": {"repositories": rows}})
    for spec, word in (
        ({"create": {"storageCapacityGiB": 2400}}, "make another LustreVolume"),
        ({"repositories": [storage.repository("/a")]}, "cannot be removed"),
        ({"repositories": [storage.repository("/a"), {"path": "/ab", "s3": "s3://other/ab/"}]}, "nor its path or s3 changed"),
        ({"create": None, "fileSystemId": "fs-0123456789abcdef0"}, "cannot be exchanged"),
    ):
        with pytest.raises(Refused, match=word):
            storage.patch(spec)
