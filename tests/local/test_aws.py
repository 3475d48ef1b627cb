"""What EKS adds: FSx volumes by their CSI driver, credentials by Pod Identity, and a fake AWS behind both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock_local import images, status
from penstock_local.cluster import Cluster
from penstock_local.errors import LocalError
from penstock_local.seeds import Archive

sys.path.insert(0, str(Path(__file__).parent))

from fsx_volumes import RESTRICTED, claim, client, file_system, mounting

pytestmark = pytest.mark.e2e

RunPod = Callable[..., dict[str, Any]]
Eventually = Callable[..., Any]

SPACE = "tenant"
TOKENS = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
PROCESSES = ("control-plane/fake-aws", "control-plane/pod-identity-agent", "node1/fsx-csi", "node2/fsx-csi", "host/aws-forward")
# The operator's image has botocore's signatures, but of its service models only the few that the operator calls.
WHO_AM_I = """
import os, urllib.request
import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
print(boto3.client("sts").get_caller_identity()["Arn"])
url, plain = os.environ["AWS_ENDPOINT_URL"] + "/tenants/from-a-pod", {"Content-Type": "text/plain"}
put = AWSRequest("PUT", url, plain, b"hello")
S3SigV4Auth(boto3.Session().get_credentials(), "s3", os.environ["AWS_REGION"]).add_auth(put)
urllib.request.urlopen(urllib.request.Request(url, b"hello", dict(put.headers.items()), method="PUT"))
"""
ASK_WITH_ANY_TOKEN = """
import sys, urllib.error, urllib.request
request = urllib.request.Request("http://169.254.170.23/v1/credentials", headers={"Authorization": sys.argv[1]})
try:
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


@pytest.fixture(scope="module")
def space(cluster: Cluster) -> Iterator[str]:
    """A namespace that takes only restricted pods, with service accounts `trusted` and `plain`."""
    cluster.kubectl("create", "namespace", SPACE)
    cluster.kubectl("label", "namespace", SPACE, "pod-security.kubernetes.io/enforce=restricted")
    for account in ("trusted", "plain"):
        cluster.kubectl("-n", SPACE, "create", "serviceaccount", account)
    yield SPACE
    cluster.kubectl("delete", "namespace", SPACE, "--wait=false")


@pytest.fixture(scope="module")
def python(cluster: Cluster) -> str:
    """An image with Python and boto3: the operator's."""
    cluster.load_image("operator", Archive(images.archive("operator"), images.digest("operator")))
    return "docker.io/penstock/operator:0.1.0"


@pytest.fixture
def restricted(space: str, run_pod: RunPod) -> RunPod:
    """`run_pod` in the restricted namespace, as user 1000."""

    def run(name: str, *, container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        pod = {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}
        return run_pod(name, namespace=space, container={**RESTRICTED, **(container or {})}, securityContext=pod, **spec)

    return run


@pytest.fixture
def sleeper(restricted: RunPod, python: str) -> RunPod:
    """A pod of the Python image that waits to be asked."""

    def run(name: str, account: str, **container: Any) -> dict[str, Any]:
        stays = ["python", "-c", "import signal; signal.signal(signal.SIGTERM, lambda *_: exit()); signal.pause()"]
        more = {"image": python, "command": stays, "readinessProbe": None, **container}
        return restricted(name, container=more, serviceAccountName=account)

    return run


def _in(cluster: Cluster, pod: str, *command: str, namespace: str = SPACE) -> str:
    return cluster.kubectl("-n", namespace, "exec", pod, "--", *command)


def _given_away(cluster: Cluster, run_pod: RunPod, name: str, system: dict[str, Any]) -> None:
    """The root of the file system becomes user 1000's, by a root pod: what an administrator does once on EKS."""
    claim(cluster, "default", name, system)
    run_pod(f"owner-of-{name}", **mounting(name))
    _in(cluster, f"owner-of-{name}", "/probe", "give", "/data", namespace="default")


def _mounts(cluster: Cluster, volume: str) -> list[str]:
    """Where the nodes have this volume mounted."""
    lines = [line for node in cluster.nodes() for line in node.machine.run(["cat", "/proc/self/mounts"]).splitlines()]
    return [line.split()[1] for line in lines if f"kubernetes.io~csi/{volume}/" in line]


def test_a_file_system_is_mounted_in_restricted_pods_on_both_nodes_and_each_sees_the_others_file(
    cluster: Cluster, space: str, run_pod: RunPod, restricted: RunPod, eventually: Eventually
) -> None:
    system = file_system(cluster)
    claim(cluster, space, "shared", system)
    for node in ("node1", "node2"):
        restricted(f"on-{node}", nodeName=node, **mounting("shared"))
    # As on AWS: the root is root's, and a pod's fsGroup is not applied to a ReadWriteMany volume.
    with pytest.raises(LocalError, match="permission denied"):
        _in(cluster, "on-node1", "/probe", "write", "/data/one", "too early")
    _given_away(cluster, run_pod, "shared", system)
    _in(cluster, "on-node1", "/probe", "write", "/data/one", "from node1")
    _in(cluster, "on-node2", "/probe", "write", "/data/two", "from node2")
    assert _in(cluster, "on-node2", "/probe", "read", "/data/one") == "from node1"
    assert _in(cluster, "on-node1", "/probe", "read", "/data/two") == "from node2"
    assert (cluster.folder / "aws" / "fsx" / system["FileSystemId"] / "one").read_text() == "from node1"
    assert len(_mounts(cluster, f"{space}-shared")) == 2
    cluster.kubectl("-n", space, "delete", "pod", "on-node1", "on-node2", "--timeout=60s")
    eventually(lambda: not _mounts(cluster, f"{space}-shared"), "the volume is unmounted")


def test_a_read_only_volume_cannot_be_written(cluster: Cluster, space: str, run_pod: RunPod, restricted: RunPod) -> None:
    system = file_system(cluster)
    _given_away(cluster, run_pod, "readable", system)
    claim(cluster, space, "readable", system)
    restricted("reader", **mounting("readable", read_only=True))
    with pytest.raises(LocalError, match="read-only file system"):
        _in(cluster, "reader", "/probe", "write", "/data/file", "text")


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("mount", {"mountname": "fsx"}, "is the filesystem name correct"),
        ("dns", {"dnsname": "fs-0123456789abcdef0.fsx.us-east-1.amazonaws.com"}, "does not resolve"),
        ("text", {"dnsname": "example.com"}, "not the DNS name of a file system"),
        ("empty", {"dnsname": ""}, "dnsname is not provided"),
    ],
)
def test_a_wrong_file_system_is_not_mounted_and_the_pods_event_says_why(
    name: str,
    wrong: dict[str, str],
    said: str,
    cluster: Cluster,
    space: str,
    restricted: RunPod,
    eventually: Eventually,
) -> None:
    claim(cluster, space, f"wrong-{name}", file_system(cluster), **wrong)
    restricted(f"wrong-{name}", ready=False, **mounting(f"wrong-{name}"))

    def events() -> str:
        chosen = f"involvedObject.name=wrong-{name},reason=FailedMount"
        return cluster.kubectl("-n", space, "get", "events", "--field-selector", chosen, "-o", "jsonpath={.items[*].message}")

    eventually(lambda: said in events(), "a FailedMount event that says why", state=events)


def test_a_mount_that_failed_for_a_moment_is_tried_again(
    cluster: Cluster, space: str, restricted: RunPod, eventually: Eventually
) -> None:
    from penstock_local.aws import Control

    system = file_system(cluster)
    control = Control(cluster.aws_environment()["AWS_ENDPOINT_URL"])
    control.fault("fsx", "DescribeFileSystems", "InternalServerError", "injected", status=500)
    claim(cluster, space, "later", system)
    restricted("later", **mounting("later"))
    messages = cluster.kubectl(
        "-n", space, "get", "events", "--field-selector", "involvedObject.name=later", "-o", "jsonpath={.items[*].message}"
    )
    assert "injected" in messages


def test_a_pod_of_an_associated_service_account_acts_as_its_role(cluster: Cluster, space: str, sleeper: RunPod) -> None:
    client(cluster, "s3").create_bucket(Bucket="tenants")
    role = cluster.associate(space, "trusted")
    assert role == "arn:aws:iam::123456789012:role/tenant-trusted"
    pod = sleeper("trusted", "trusted", env=[{"name": "AWS_REGION", "value": "eu-west-1"}])
    who = _in(cluster, "trusted", "python", "-c", WHO_AM_I).strip()
    assert who.startswith("arn:aws:sts::123456789012:assumed-role/tenant-trusted/eks-")
    assert client(cluster, "s3").get_object(Bucket="tenants", Key="from-a-pod")["Body"].read() == b"hello"
    environment = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert environment == {
        "AWS_REGION": "eu-west-1",  # its own word stands
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        "AWS_ENDPOINT_URL": "http://10.250.0.1:4566",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": f"{TOKENS}/eks-pod-identity-token",
    }
    assert "SECRET" not in json.dumps(pod)


def test_init_containers_get_credentials_and_a_pod_without_volumes_too(cluster: Cluster, space: str) -> None:
    cluster.associate(space, "trusted")
    container = {"image": "none", **RESTRICTED}
    spec = {
        "serviceAccountName": "trusted",
        "automountServiceAccountToken": False,
        "initContainers": [{"name": "first", **container}],
        "containers": [{"name": "main", **container}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dry", "namespace": space}, "spec": spec}
    made = json.loads(cluster.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod)))["spec"]
    for one in (*made["initContainers"], *made["containers"]):
        assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in [each["name"] for each in one["env"]]
        assert [each["name"] for each in one["volumeMounts"]] == ["eks-pod-identity-token"]
    assert [each["name"] for each in made["volumes"]] == ["eks-pod-identity-token"]


def test_a_pod_of_another_service_account_gets_nothing(cluster: Cluster, space: str, sleeper: RunPod) -> None:
    pod = sleeper("plain", "plain")
    assert "env" not in pod["spec"]["containers"][0]
    with pytest.raises(LocalError, match="NoCredentialsError"):
        _in(cluster, "plain", "python", "-c", WHO_AM_I.replace('client("sts")', 'client("sts", "us-east-1")'))

    def ask(token: str) -> str:
        return _in(cluster, "plain", "python", "-c", ASK_WITH_ANY_TOKEN, token)

    def token(account: str, *audience: str) -> str:
        return cluster.kubectl("-n", space, "create", "token", account, *audience).strip()

    right = "--audience=pods.eks.amazonaws.com"
    cluster.associate(space, "trusted")
    assert ask(token("trusted", right)).startswith("200")
    assert "404" in (answer := ask(token("plain", right)))
    assert "service account tenant/plain has no association with a role" in answer
    assert ask(token("trusted")).startswith("401")  # the audience is the API server
    assert ask("eyJhbGciOiJub25lIn0.e30.").startswith("401")
    assert ask("").startswith("400")
    cluster.dissociate(space, "trusted")
    assert ask(token("trusted", right)).startswith("404")


def test_killed_processes_come_back_and_mounts_and_credentials_with_them(
    cluster: Cluster, space: str, run_pod: RunPod, restricted: RunPod, sleeper: RunPod, eventually: Eventually
) -> None:
    system = file_system(cluster)
    _given_away(cluster, run_pod, "kept", system)
    claim(cluster, space, "kept", system)
    cluster.associate(space, "trusted")
    restricted("before", nodeName="node1", **mounting("kept"))
    sleeper("asks", "trusted")
    _in(cluster, "before", "/probe", "write", "/data/file", "kept")
    for name in PROCESSES:
        cluster.kill(name)
    cluster.up()
    assert all(cluster.daemons()[name].pid() for name in PROCESSES)
    assert _in(cluster, "before", "/probe", "read", "/data/file") == "kept"
    client(cluster, "s3").create_bucket(Bucket="tenants")  # the fake AWS forgot the first
    assert "assumed-role/tenant-trusted" in _in(cluster, "asks", "python", "-c", WHO_AM_I)
    cluster.kubectl("-n", space, "delete", "pod", "before", "--timeout=60s")
    fresh = file_system(cluster)
    claim(cluster, space, "fresh", fresh)
    restricted("after", nodeName="node1", **mounting("fresh"))
    eventually(lambda: not _mounts(cluster, f"{space}-kept"), "the volume of the deleted pod is unmounted")
    assert len(_mounts(cluster, f"{space}-fresh")) == 1


def test_the_command_line_leads_clients_to_the_fake_aws_and_shows_its_processes(cluster: Cluster) -> None:
    def penstock(*words: str) -> str:
        command = [sys.executable, "-m", "penstock_local.cli", "local", *words, "--name", cluster.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert f"export AWS_ENDPOINT_URL={cluster.aws_environment()['AWS_ENDPOINT_URL']}\n" in penstock("aws-env")
    assert "http://10.250.0.1:4566" in penstock("logs", "fake-aws")
    said = penstock("pod-identity", "associate", "default", "default", "--role", "arn:aws:iam::123456789012:role/any")
    assert "default/default get credentials of arn:aws:iam::123456789012:role/any" in said
    penstock("pod-identity", "dissociate", "default", "default")
    page = status.report(cluster).text
    for name in PROCESSES:
        assert name in page
    assert f"fake AWS   {cluster.aws_environment()['AWS_ENDPOINT_URL']} from this machine" in page
