"""Objects by URI, against a real S3 protocol over HTTP."""

from __future__ import annotations

import hashlib

import pytest
from tests.components.conftest import CALL, no_credentials

from penstock_components import aws as clients
from penstock_components import names, s3
from penstock_components.errors import ComponentError, Outage, several
from penstock_components.waiting import FOREVER
from penstock_local.aws import FakeAWS


@pytest.mark.parametrize(
    ("uri", "parts"),
    [("s3://b/k", ("b", "k")), ("s3://b/a/b c.png", ("b", "a/b c.png")), ("s3://b", ("b", "")), ("s3://b/a/", ("b", "a/"))],
)
def test_a_uri_is_bucket_and_key(uri: str, parts: tuple[str, str]) -> None:
    assert s3.parse(uri) == parts


@pytest.mark.parametrize("uri", ["https://b/k", "s3:/b/k", "s3:///k", "", "b/k"])
def test_another_uri_is_refused_with_the_right_form(uri: str) -> None:
    with pytest.raises(ComponentError, match="write s3://bucket/key"):
        s3.parse(uri)


def test_what_is_written_is_read_and_found(bucket: str) -> None:
    uri = s3.join(bucket, "folder", "name with space ü.bin")
    assert not s3.exists(uri)
    s3.write(uri, b"data", "text/plain")
    assert s3.read(uri) == b"data"
    assert s3.exists(uri)
    assert s3.find(uri) == s3.Object(uri, 4, hashlib.md5(b"data").hexdigest())


def test_the_checksum_can_be_asked_for_without_reading(bucket: str) -> None:
    uri = s3.join(bucket, "k")
    assert s3.sha256(uri) is None
    s3.write(uri, b"data")
    assert s3.sha256(uri) == hashlib.sha256(b"data").hexdigest()


def test_a_listing_goes_over_pages_in_key_order(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 5)
    keys = [f"p/{number:04}" for number in range(12)]
    for key in keys:
        s3.write(s3.join(bucket, key), b"x")
    s3.write(s3.join(bucket, "q"), b"x")
    assert [each.uri for each in s3.objects(s3.join(bucket, "p/"))] == [s3.join(bucket, key) for key in keys]


@pytest.mark.parametrize("call", [s3.read, lambda uri: list(s3.objects(uri)), lambda uri: s3.write(uri, b"x")])
def test_a_missing_bucket_is_named(aws: FakeAWS, call: object) -> None:
    with pytest.raises(ComponentError, match=r"s3://never-made-bucket/k: there is no such bucket.*NoSuchBucket"):
        call("s3://never-made-bucket/k")  # type: ignore[operator]


def test_a_missing_object_is_named(bucket: str) -> None:
    with pytest.raises(ComponentError, match=r"/nothing: the object is not there"):
        s3.read(s3.join(bucket, "nothing"))


def test_a_folder_is_no_object(bucket: str) -> None:
    with pytest.raises(ComponentError, match="names no object"):
        s3.read(s3.join(bucket, "folder/"))


def test_the_region_of_a_bucket_is_found(aws: FakeAWS, bucket: str) -> None:
    there = f"{s3.parse(bucket)[0]}-ireland"
    aws.client("s3").create_bucket(Bucket=there, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert (s3.region(s3.parse(bucket)[0]), s3.region(there)) == ("us-east-1", "eu-west-1")
    with pytest.raises(ComponentError, match="no such bucket"):
        s3.region("never-made-bucket")


def test_a_client_without_region_says_what_to_set(aws: FakeAWS, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(ComponentError, match="set AWS_REGION"):
        clients.client("s3")


def test_a_client_is_made_once_for_an_environment(aws: FakeAWS, monkeypatch: pytest.MonkeyPatch) -> None:
    first = clients.client("s3")
    assert clients.client("s3") is first
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert clients.client("s3").meta.region_name == "eu-west-1"


def test_no_connection_is_transient_and_a_refusal_is_not(aws: FakeAWS, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ComponentError) as refusal:
        s3.read("s3://never-made-bucket/k")
    assert isinstance(refusal.value.__cause__, Exception)
    assert not clients.transient(refusal.value.__cause__)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    session = clients.client("sagemaker")
    with pytest.raises(Exception, match="Could not connect") as lost:
        session.describe_workteam(WorkteamName="x")
    assert clients.transient(lost.value)


def test_an_outage_of_s3_is_told_from_what_is_wrong_and_names_the_object(aws: FakeAWS, bucket: str, no_backoff: None) -> None:
    uri = s3.join(bucket, "k")
    aws.control.fault("s3", "*", "SlowDown", status=503, times=CALL)
    with pytest.raises(Outage, match=f"{uri}: S3 refused .*SlowDown") as caught:
        s3.read(uri)
    assert clients.transient(caught.value)
    assert not isinstance(caught.value, ComponentError)


def test_credentials_that_do_not_come_are_asked_for_again_for_minutes_and_an_outage_for_ever(
    aws: FakeAWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_credentials(monkeypatch)
    with pytest.raises(Exception, match="retrieving credentials") as none:
        s3.read("s3://bucket/k")
    patience = clients.patience(none.value)
    assert patience is not None
    assert 60 <= patience.seconds <= 600
    assert clients.patience(Outage("S3 refused")) == FOREVER
    assert clients.patience(ComponentError("wrong")) is None


def test_names_are_labels_and_follow_their_parts() -> None:
    name = names.deterministic("My Job_" * 20, {"b": 1, "a": [2]})
    assert len(name) <= 63
    assert name == names.deterministic("My Job_" * 20, {"a": [2], "b": 1})
    assert name != names.deterministic("My Job_" * 20, {"a": [3], "b": 1})
    assert names.deterministic("a-b", "x") != names.deterministic("a_b", "x")
    assert names.deterministic("9 lives", "x").startswith("x-9-lives-")


def test_many_problems_are_told_with_their_number() -> None:
    text = str(several("bad lines:", [f"line {number}" for number in range(13)]))
    assert text.splitlines() == ["bad lines:", *(f"  line {number}" for number in range(10)), "  and 3 more"]
