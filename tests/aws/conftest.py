"""One fake AWS for the session, quick unless a test wants otherwise; a bucket, file systems and work teams for each test."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from penstock_local.aws import FakeAWS

QUICK = {
    "fsx.createSeconds": 0, "fsx.updateSeconds": 0, "fsx.deleteSeconds": 0, "fsx.associationSeconds": 0, "fsx.taskSeconds": 0,
    "fsx.failPaths": [], "fsx.badBucket": "refuse", "labelling.startSeconds": 0, "labelling.secondsPerObject": 0,
    "labelling.stopSeconds": 0, "labelling.failObjects": [], "labelling.statusAtLimit": "Stopped",
}  # fmt: skip
SUBNET = "subnet-0123456789abcdef0"
FUNCTIONS = "arn:aws:lambda:us-east-1:432418664414:function"

Eventually = Callable[..., Any]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAWS]:
    with FakeAWS(tmp_path_factory.mktemp("aws")) as started:
        yield started
    log = started.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture
def aws(running: FakeAWS) -> FakeAWS:
    """The fake AWS without anything that an earlier test asked of it."""
    running.control.configure(QUICK)
    running.control.clear_faults()
    running.control.forget_calls()
    return running


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Call until the answer is true; fails with the last answer after `seconds`."""

    def wait(answer: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := answer()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what}; last: {found!r}")
            time.sleep(0.03)
        return found

    return wait


@pytest.fixture(scope="session")
def fsx_client(running: FakeAWS) -> Any:
    return running.client("fsx")


@pytest.fixture(scope="session")
def s3_client(running: FakeAWS) -> Any:
    return running.client("s3")


@pytest.fixture(scope="session")
def sagemaker_client(running: FakeAWS) -> Any:
    return running.client("sagemaker")


@pytest.fixture
def fsx(aws: FakeAWS, fsx_client: Any) -> Any:
    return fsx_client


@pytest.fixture
def s3(aws: FakeAWS, s3_client: Any) -> Any:
    return s3_client


@pytest.fixture
def sagemaker(aws: FakeAWS, sagemaker_client: Any) -> Any:
    return sagemaker_client


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    """The name of a new bucket: the test's own, and the same in each run. Workers err by the names of what they look at."""
    name = f"test-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def refused() -> Callable[..., dict[str, Any]]:
    """Call and give the error that AWS answers with: `{"Code", "Message", ...}` and, as "status", the HTTP status."""

    def call(operation: Callable[..., Any], /, **parameters: Any) -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            operation(**parameters)
        answer: Any = caught.value.response
        return {**answer, **answer["Error"], "status": answer["ResponseMetadata"]["HTTPStatusCode"]}

    return call


def lustre(**changes: Any) -> dict[str, Any]:
    """A CreateFileSystem request; `LustreConfiguration` members may be given beside its own."""
    outer = {"StorageCapacity", "StorageType", "SubnetIds", "FileSystemTypeVersion", "Tags", "ClientRequestToken", "KmsKeyId"}
    request: dict[str, Any] = {"FileSystemType": "LUSTRE", "StorageCapacity": 1200, "SubnetIds": [SUBNET]}
    request |= {"FileSystemTypeVersion": "2.15"} | {key: value for key, value in changes.items() if key in outer}
    inner = {"DeploymentType": "SCRATCH_2"} | {key: value for key, value in changes.items() if key not in outer}
    return {key: value for key, value in request.items() if value is not None} | {"LustreConfiguration": inner}


@pytest.fixture(scope="session")
def request_of() -> Callable[..., dict[str, Any]]:
    return lustre


@pytest.fixture
def file_system(fsx: Any, eventually: Eventually) -> Callable[..., str]:
    """Makes a file system, waits until it is AVAILABLE and gives its id."""

    def make(**changes: Any) -> str:
        made: str = fsx.create_file_system(**lustre(**changes))["FileSystem"]["FileSystemId"]
        eventually(
            lambda: fsx.describe_file_systems(FileSystemIds=[made])["FileSystems"][0]["Lifecycle"] == "AVAILABLE", "AVAILABLE"
        )
        return made

    return make


@pytest.fixture
def link(fsx: Any, bucket: str, eventually: Eventually) -> Callable[..., dict[str, Any]]:
    """Makes an association of /data with s3://<bucket>/in/, waits until it is AVAILABLE and gives its description."""

    def make(file_system_id: str, *, imports: str = "", exports: str = "", **changes: Any) -> dict[str, Any]:
        policies = {"AutoImportPolicy": imports.split(), "AutoExportPolicy": exports.split()}
        request = {
            "FileSystemPath": "/data/",
            "DataRepositoryPath": f"s3://{bucket}/in/",
            "BatchImportMetaDataOnCreate": True,
            "S3": {name: {"Events": events} for name, events in policies.items() if events},
        }
        made = fsx.create_data_repository_association(FileSystemId=file_system_id, **request | changes)["Association"]

        def described() -> dict[str, Any] | None:
            found = fsx.describe_data_repository_associations(AssociationIds=[made["AssociationId"]])["Associations"][0]
            return found if found["Lifecycle"] not in ("CREATING", "UPDATING") else None

        found: dict[str, Any] = eventually(described, "the association is made")
        return found

    return make


@pytest.fixture
def team(sagemaker: Any) -> Iterator[str]:
    """The name of a new work team, in which nobody works yet; deleted again, since there are 25 at most."""
    name = f"team-{uuid.uuid4().hex[:8]}"
    members = [{"CognitoMemberDefinition": {"UserPool": "us-east-1_abc", "UserGroup": "g", "ClientId": "c"}}]
    sagemaker.create_workteam(WorkteamName=name, MemberDefinitions=members, Description="tests")
    yield name
    if sagemaker.list_workteams(NameContains=name)["Workteams"]:
        sagemaker.delete_workteam(WorkteamName=name)


@pytest.fixture
def job_request(s3: Any, bucket: str, team: str) -> Callable[..., dict[str, Any]]:
    """Puts `count` objects, a manifest, categories and a page into the bucket; gives a CreateLabelingJob request for them."""

    def make(count: int = 6, *, manifest: bytes | None = None, name: str | None = None, **people: Any) -> dict[str, Any]:
        uris = [f"s3://{bucket}/images/{number:03}.png" for number in range(count)]
        for uri in uris:
            s3.put_object(Bucket=bucket, Key=uri.split("/", 3)[3], Body=b"png")
        lines = "".join(json.dumps({"source-ref": uri, "id": number}) + "\n" for number, uri in enumerate(uris))
        s3.put_object(Bucket=bucket, Key="input.manifest", Body=lines.encode() if manifest is None else manifest)
        labels = {"document-version": "2018-11-28", "labels": [{"label": each} for each in ("cat", "dog", "owl")]}
        s3.put_object(Bucket=bucket, Key="labels.json", Body=json.dumps(labels).encode())
        s3.put_object(Bucket=bucket, Key="page.html", Body=b"<crowd-form></crowd-form>")
        return {
            "LabelingJobName": name or f"job-{uuid.uuid4().hex[:10]}",
            "LabelAttributeName": "animal",
            "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": f"s3://{bucket}/input.manifest"}}},
            "OutputConfig": {"S3OutputPath": f"s3://{bucket}/out/"},
            "RoleArn": "arn:aws:iam::123456789012:role/labelling",
            "LabelCategoryConfigS3Uri": f"s3://{bucket}/labels.json",
            "HumanTaskConfig": {
                "WorkteamArn": f"arn:aws:sagemaker:us-east-1:123456789012:workteam/private-crowd/{team}",
                "UiConfig": {"UiTemplateS3Uri": f"s3://{bucket}/page.html"},
                "PreHumanTaskLambdaArn": f"{FUNCTIONS}:PRE-ImageMultiClass",
                "TaskTitle": "Which animal?",
                "TaskDescription": "Choose the animal.",
                "NumberOfHumanWorkersPerDataObject": 3,
                "TaskTimeLimitInSeconds": 300,
                "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": f"{FUNCTIONS}:ACS-ImageMultiClass"},
                **people,
            },
        }

    return make


@pytest.fixture
def hire(aws: FakeAWS, bucket: str, team: str) -> Callable[..., dict[str, int]]:
    """Puts workers into the team, who know a truth for `count` objects: object n shows class n modulo 3."""

    def make(count: int = 6, accuracies: tuple[float, ...] = (0.9, 0.8, 0.7), seed: int = 1) -> dict[str, int]:
        truth = {f"s3://{bucket}/images/{number:03}.png": number % 3 for number in range(count)}
        workers = [{"id": f"worker-{number}", "accuracy": accuracy} for number, accuracy in enumerate(accuracies)]
        aws.control.workers(team, workers, truth=truth, seed=seed)
        return truth

    return make


@pytest.fixture
def finished(sagemaker: Any, eventually: Eventually) -> Callable[..., dict[str, Any]]:
    """Creates a labelling job and gives its description when it has ended."""

    def run(request: dict[str, Any]) -> dict[str, Any]:
        sagemaker.create_labeling_job(**request)

        def ended() -> dict[str, Any] | None:
            job: dict[str, Any] = sagemaker.describe_labeling_job(LabelingJobName=request["LabelingJobName"])
            return job if job["LabelingJobStatus"] in ("Completed", "Failed", "Stopped") else None

        job: dict[str, Any] = eventually(ended, "the job has ended")
        return job

    return run
