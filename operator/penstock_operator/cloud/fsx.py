"""Amazon FSx for Lustre through boto3: the calls that a volume's life needs, with what AWS answers as small values.

The only module that speaks to AWS. It decides nothing: every call is one request (or one listing), and every error becomes a
`CloudError` with AWS's own code and words. boto3 blocks, so the reconciler calls this in threads; it is imported when the first
LustreVolume appears, because it costs 35 MB that an operator without volumes need not have.

Source of every field: Amazon FSx API Reference (CreateFileSystem, CreateDataRepositoryAssociation, CreateDataRepositoryTask).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock_operator.api.lustrevolume import Compression, CreateFileSystem, DeploymentType, Repository

if TYPE_CHECKING:
    from types_boto3_fsx import FSxClient

TAG_VOLUME = "penstock.dev/volume"
"""Tag with the LustreVolume's uid: what finds a file system whose id was lost in a crash."""

UNREACHABLE, THROTTLED = "CloudUnreachable", "CloudThrottled"


class CloudError(Exception):
    """AWS said no, or did not answer. `reason` is CloudUnreachable, CloudThrottled or CloudRefused; `code` AWS's own word."""

    def __init__(self, reason: str, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.reason, self.code, self.message = reason, code, message


@dataclass(frozen=True, slots=True)
class Place:
    """An account and a region: what AWS does not know in one may well be in another. Empty: not known."""

    account: str = ""
    region: str = ""


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system as DescribeFileSystems shows it. `lifecycle`: CREATING, AVAILABLE, UPDATING, DELETING, FAILED or
    MISCONFIGURED."""

    id: str
    lifecycle: str
    dns_name: str = ""
    mount_name: str = ""
    capacity_gib: int = 0
    subnet_id: str = ""
    message: str = ""
    created: datetime | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Association:
    """A data repository association. `path` and `s3` as AWS writes them, with a slash at the end. `tag`: uid of the
    LustreVolume that made it; empty for one made by hand."""

    id: str
    lifecycle: str
    path: str
    s3: str
    import_events: frozenset[str] = frozenset()
    export_events: frozenset[str] = frozenset()
    message: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """An export. `lifecycle`: PENDING, EXECUTING, SUCCEEDED, FAILED, CANCELING, CANCELED."""

    id: str
    lifecycle: str
    failed: int = 0
    total: int = 0
    message: str = ""
    counted: bool = True
    """AWS has told the counts; without them nothing is proven."""


class FSx:
    """Calls to one account and region, as the environment names them. Thread-safe, as boto3's clients are."""

    def __init__(self) -> None:
        import boto3
        from botocore.config import Config

        # Three tries in all: the queue comes back with its own back-off, and says why meanwhile.
        config = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=20)
        self._session = boto3.session.Session()
        self._config = config
        with _errors():
            self._client: FSxClient = self._session.client("fsx", config=config)
        self._zones: dict[str, str] = {}
        self._others: dict[str, Any] = {}
        self._making = threading.Lock()

    def place(self, ask: bool = True) -> Place:
        """Where these calls go. What the credentials say of their account (Pod Identity, IRSA and AWS_ACCOUNT_ID do) is taken;
        else STS is asked, if `ask`; it needs no permission. An account that nobody tells stays unknown."""
        credentials = self._session.get_credentials()
        account = (credentials.get_frozen_credentials().account_id if credentials else None) or ""
        if not account and ask:
            try:
                with _errors():
                    account = self._other("sts").get_caller_identity()["Account"]
            except CloudError:
                account = ""
        return Place(account, self._client.meta.region_name)

    def create(self, wanted: CreateFileSystem, uid: str, name: str) -> FileSystem:
        """CreateFileSystem. The token makes a repeated call answer with the file system of the first."""
        with _errors():
            return _file_system(self._client.create_file_system(**create_request(wanted, uid, name))["FileSystem"])

    def describe(self, file_system_id: str) -> FileSystem | None:
        """The file system; None when AWS knows none of this id."""
        try:
            with _errors():
                found = self._client.describe_file_systems(FileSystemIds=[file_system_id])["FileSystems"]
        except CloudError as error:
            if error.code == "FileSystemNotFound":
                return None
            raise
        return _file_system(found[0]) if found else None

    def find(self, uid: str) -> FileSystem | None:
        """The file system that carries this volume's tag."""
        with _errors():
            for page in self._client.get_paginator("describe_file_systems").paginate():
                for found in page["FileSystems"]:
                    if {"Key": TAG_VOLUME, "Value": uid} in found.get("Tags", ()) and found.get("Lifecycle") != "DELETING":
                        return _file_system(found)
        return None

    def delete(self, file_system_id: str) -> None:
        """DeleteFileSystem; one that is gone already is fine."""
        try:
            with _errors():
                self._client.delete_file_system(FileSystemId=file_system_id)
        except CloudError as error:
            if error.code != "FileSystemNotFound":
                raise

    def associations(self, file_system_id: str) -> tuple[Association, ...]:
        with _errors():
            filters: Any = [{"Name": "file-system-id", "Values": [file_system_id]}]
            found, token = [], None
            while True:
                more: Any = {"NextToken": token} if token else {}
                answer = self._client.describe_data_repository_associations(Filters=filters, **more)
                found += [_association(one) for one in answer["Associations"]]
                token = answer.get("NextToken")
                if not token:
                    return tuple(found)

    def link(self, file_system_id: str, repository: Repository, token: str, uid: str) -> None:
        """CreateDataRepositoryAssociation, with the metadata of all that is in S3, and with the volume's tag."""
        with _errors():
            self._client.create_data_repository_association(
                ClientRequestToken=token,
                FileSystemId=file_system_id,
                FileSystemPath=slashed(repository.path),
                DataRepositoryPath=slashed(repository.s3),
                BatchImportMetaDataOnCreate=True,  # the default leaves the tree empty of what is there already
                S3=_policies(repository.import_events, repository.export_events),
                Tags=_tag(uid),
            )

    def set_events(self, association_id: str, import_events: Sequence[str], export_events: Sequence[str]) -> None:
        """UpdateDataRepositoryAssociation."""
        with _errors():
            self._client.update_data_repository_association(
                AssociationId=association_id, S3=_policies(import_events, export_events)
            )

    def unlink(self, association_id: str) -> None:
        """DeleteDataRepositoryAssociation; the files stay."""
        with _errors():
            self._client.delete_data_repository_association(AssociationId=association_id, DeleteDataInFileSystem=False)

    def export(self, file_system_id: str, paths: Sequence[str], token: str, uid: str) -> str:
        """CreateDataRepositoryTask that exports `paths`; returns its id. Without a report: counts tell what the proof needs."""
        with _errors():
            answer = self._client.create_data_repository_task(
                Type="EXPORT_TO_REPOSITORY",
                FileSystemId=file_system_id,
                Paths=[path.strip("/") for path in paths],
                Report={"Enabled": False},
                ClientRequestToken=token,
                Tags=_tag(uid),
            )
            return answer["DataRepositoryTask"]["TaskId"]

    def task(self, task_id: str) -> Task | None:
        try:
            with _errors():
                found = self._client.describe_data_repository_tasks(TaskIds=[task_id])["DataRepositoryTasks"]
        except CloudError as error:
            if error.code == "DataRepositoryTaskNotFound":
                return None
            raise
        return _task(found[0]) if found else None

    def zone(self, subnet_id: str) -> str:
        """Availability zone of a subnet; asked once."""
        if subnet_id not in self._zones:
            with _errors():
                self._zones[subnet_id] = self._other("ec2").describe_subnets(SubnetIds=[subnet_id])["Subnets"][0][
                    "AvailabilityZone"
                ]
        return self._zones[subnet_id]

    def _other(self, service: str) -> Any:
        """A client of another service. boto3's sessions, unlike its clients, are not thread-safe."""
        with self._making:
            if service not in self._others:
                make: Any = self._session.client
                self._others[service] = make(service, config=self._config)
            return self._others[service]


def create_request(wanted: CreateFileSystem, uid: str, name: str) -> dict[str, Any]:
    """Arguments of CreateFileSystem. 2.15 always: AWS's own default, 2.10, cannot be mounted by today's nodes."""
    scratch = wanted.deployment_type is DeploymentType.SCRATCH_2
    lustre: dict[str, Any] = {"DeploymentType": "SCRATCH_2" if scratch else "PERSISTENT_2"}
    if wanted.throughput_per_ti_b is not None:
        lustre["PerUnitStorageThroughput"] = wanted.throughput_per_ti_b
    if wanted.compression is not Compression.NONE:
        lustre["DataCompressionType"] = wanted.compression.value
    if wanted.metadata_iops is not None:
        lustre["MetadataConfiguration"] = {"Mode": "USER_PROVISIONED", "Iops": wanted.metadata_iops}
    if wanted.efa:
        # EFA asks for a metadata configuration.
        lustre["EfaEnabled"] = True
        lustre.setdefault("MetadataConfiguration", {"Mode": "AUTOMATIC"})
    request: dict[str, Any] = {
        "ClientRequestToken": uid,
        "FileSystemType": "LUSTRE",
        "FileSystemTypeVersion": "2.15",
        "StorageCapacity": wanted.storage_capacity_gi_b,
        "StorageType": "SSD",
        "SubnetIds": [wanted.subnet_id],
        "LustreConfiguration": lustre,
        "Tags": [{"Key": key, "Value": value} for key, value in ({"Name": name} | wanted.tags | {TAG_VOLUME: uid}).items()],
    }
    if wanted.security_group_ids:
        request["SecurityGroupIds"] = wanted.security_group_ids
    if wanted.kms_key_id:
        request["KmsKeyId"] = wanted.kms_key_id
    return request


def _tag(uid: str) -> Any:
    return [{"Key": TAG_VOLUME, "Value": uid}]


def slashed(path: str) -> str:
    """As AWS writes folders and prefixes: with a slash at the end."""
    return path if path.endswith("/") else path + "/"


def _policies(import_events: Sequence[str], export_events: Sequence[str]) -> Any:
    return {
        "AutoImportPolicy": {"Events": sorted(event.upper() for event in import_events)},
        "AutoExportPolicy": {"Events": sorted(event.upper() for event in export_events)},
    }


def _file_system(found: Mapping[str, Any]) -> FileSystem:
    _, _, _, region, account, *_ = found.get("ResourceARN", ":::::").split(":")
    return FileSystem(
        id=found["FileSystemId"],
        lifecycle=found.get("Lifecycle", ""),
        dns_name=found.get("DNSName", ""),
        mount_name=found.get("LustreConfiguration", {}).get("MountName", ""),
        capacity_gib=found.get("StorageCapacity", 0),
        subnet_id=next(iter(found.get("SubnetIds", ())), ""),
        message=found.get("FailureDetails", {}).get("Message", ""),
        created=found.get("CreationTime"),
        place=Place(account, region),
    )


def _association(found: Mapping[str, Any]) -> Association:
    s3 = found.get("S3", {})
    return Association(
        id=found["AssociationId"],
        lifecycle=found.get("Lifecycle", ""),
        path=slashed(found.get("FileSystemPath", "/")),
        s3=slashed(found.get("DataRepositoryPath", "")),
        import_events=frozenset(s3.get("AutoImportPolicy", {}).get("Events", ())),
        export_events=frozenset(s3.get("AutoExportPolicy", {}).get("Events", ())),
        message=found.get("FailureDetails", {}).get("Message", ""),
        tag=next((tag["Value"] for tag in found.get("Tags", ()) if tag["Key"] == TAG_VOLUME), ""),
    )


def _task(found: Mapping[str, Any]) -> Task:
    counts = found.get("Status", {})
    return Task(
        id=found["TaskId"],
        lifecycle=found.get("Lifecycle", ""),
        failed=max(counts.get("FailedCount", 0), counts.get("TotalCount", 0) - counts.get("SucceededCount", 0)),
        total=counts.get("TotalCount", 0),
        counted={"TotalCount", "SucceededCount"} <= set(counts),
        message=found.get("FailureDetails", {}).get("Message", ""),
    )


@contextmanager
def _errors() -> Iterator[None]:
    """botocore's exceptions as CloudError."""
    from botocore import exceptions, parsers

    try:
        yield
    except exceptions.ClientError as error:
        code, message = error.response["Error"].get("Code", "Unknown"), error.response["Error"].get("Message", "")
        throttled = code in ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        reason = THROTTLED if throttled else UNREACHABLE if status >= 500 else "CloudRefused"
        raise CloudError(reason, code, message) from error
    except exceptions.BotoCoreError as error:  # no credentials, no region, no connection
        raise CloudError(UNREACHABLE, type(error).__name__, str(error)) from error
    except (KeyError, parsers.ResponseParserError) as error:  # botocore takes half an answer for one without its members
        raise CloudError(UNREACHABLE, "IncompleteAnswer", f"what AWS answered is cut off ({error})") from error
