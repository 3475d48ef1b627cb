"""The process: how it starts and ends, who reaches it, and what it says about what it does not have."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from penstock_local.aws import FakeAWS
from penstock_local.errors import LocalError


def test_it_prints_its_endpoint_on_one_line_and_ends_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "penstock_local.aws", "--host", "127.0.0.1", "--port", "0", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = json.loads(process.stdout.readline())["endpoint"]
        assert endpoint.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{endpoint}/penstock/config", timeout=5) as answer:
            assert "fsx.createSeconds" in json.load(answer)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert process.stdout.read() == ""


def test_it_ends_when_the_program_that_started_it_is_killed(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    code = "import os,pathlib,sys\nfrom penstock_local.aws import FakeAWS\n"
    code += "aws = FakeAWS(pathlib.Path(sys.argv[1])).__enter__()\nprint(aws.endpoint, flush=True)\nos._exit(1)"
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False)

    def gone() -> bool:
        try:
            urllib.request.urlopen(f"{run.stdout.strip()}/penstock/config", timeout=5).close()
        except OSError:
            return True
        return False

    eventually(gone, "nobody answers at the endpoint")


def test_a_port_that_is_taken_is_told_with_the_log(aws: FakeAWS, tmp_path: Path) -> None:
    second = FakeAWS(tmp_path, port=urlsplit(aws.endpoint).port or 0)
    with pytest.raises(LocalError, match=r"(?s)did not start.*in use"), second:
        pass


def test_another_process_with_the_environment_sees_the_same_state(aws: FakeAWS, s3: Any, bucket: str) -> None:
    code = f"import boto3; boto3.client('s3').put_object(Bucket={bucket!r}, Key='k', Body=b'from there')"
    subprocess.run([sys.executable, "-c", code], env=aws.environment(), check=True)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"from there"


def test_a_connection_serves_one_request_after_the_other(aws: FakeAWS, s3: Any, bucket: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(aws.endpoint).netloc, timeout=5)
    connection.connect()
    first = connection.sock
    signed = urlsplit(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/b"}))
    aws.control.fault("s3", "PutObject", "SlowDown")
    # A body that nobody read would be taken for the next request.
    for method, path, body, status in (
        ("GET", "/penstock/config", None, 200),
        ("PUT", f"/{bucket}/k", b"x" * 100_000, 400),
        ("PUT", f"/{bucket}/a%2Fb", b"y", 200),
        ("GET", f"{signed.path}?{signed.query}", None, 200),
    ):
        connection.request(method, path, body)
        answer = connection.getresponse()
        found = answer.read()
        assert (answer.status, connection.sock) == (status, first), f"{method} {path}: {found!r}"
    assert found == b"y"
    connection.close()


def test_an_error_to_a_head_request_has_no_text_that_the_next_answer_would_begin_with(aws: FakeAWS, bucket: str) -> None:
    aws.control.fault("s3", "HeadObject", "SlowDown")
    at = urlsplit(aws.endpoint)
    with socket.create_connection((at.hostname, at.port), timeout=5) as connection, connection.makefile("rb") as answer:
        connection.sendall(f"HEAD /{bucket}/k HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: close\r\n\r\n".encode())
        head, _, text = answer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert text == b""


def test_an_upload_that_breaks_off_leaves_no_object(aws: FakeAWS, s3: Any, bucket: str, eventually: Callable[..., Any]) -> None:
    at = urlsplit(aws.endpoint)
    with socket.create_connection((at.hostname, at.port), timeout=5) as connection:
        connection.sendall(f"PUT /{bucket}/half HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: 10\r\n\r\nabc".encode())
    eventually(lambda: any(call["status"] for call in aws.control.calls("s3", "PutObject")), "the upload is answered")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_an_underscore_in_a_key_of_metadata_stays_one(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Metadata={"label_set": "a", "run-id": "b"})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"label_set": "a", "run-id": "b"}


def test_a_large_object_comes_back_whole(s3: Any, bucket: str) -> None:
    body = bytes(range(256)) * 40_000
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_it_ends_on_sigterm_beside_open_connections_and_half_requests(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "penstock_local.aws", "--port", "0", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        at = urlsplit(json.loads(process.stdout.readline())["endpoint"])
        idle, half = (socket.create_connection((at.hostname, at.port), timeout=5) for _ in range(2))
        with idle, half:
            idle.sendall(f"GET /penstock/config HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n".encode())
            assert idle.recv(12) == b"HTTP/1.1 200"
            half.sendall(f"PUT /b/k HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: 10\r\n\r\nabc".encode())
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0


def test_a_host_name_of_a_cluster_is_not_taken_for_a_bucket(aws: FakeAWS, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    signed = urlsplit(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/b"}))
    connection = http.client.HTTPConnection(signed.netloc, timeout=5)
    connection.request("GET", f"{signed.path}?{signed.query}", headers={"Host": "aws.penstock-system.svc"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"x")
    connection.close()
    assert aws.control.calls("s3", "GetObject")[0]["parameters"] == {"Bucket": bucket, "Key": "a/b"}


def test_what_is_not_there_is_told_in_the_protocol_of_the_caller(aws: FakeAWS, fsx: Any, refused: Callable[..., Any]) -> None:
    json_error = refused(
        fsx.create_file_cache,
        FileCacheType="LUSTRE",
        FileCacheTypeVersion="2.12",
        StorageCapacity=1200,
        SubnetIds=["subnet-01234567"],
    )
    rest_error = refused(aws.client("eks").list_access_entries, clusterName="c")
    query_error = refused(aws.client("sns").list_sms_sandbox_phone_numbers)
    for error, call in (
        (json_error, "fsx CreateFileCache"),
        (rest_error, "eks ListAccessEntries"),
        (query_error, "sns ListSMS"),
    ):
        assert (error["Code"], error["status"]) == ("NotImplemented", 501)
        assert error["Message"].startswith(call)
        assert error["Message"].endswith("is not in this fake AWS")


def test_a_browser_is_let_in_by_a_buckets_rules_alone(aws: FakeAWS) -> None:
    from_a_page = urllib.request.Request(f"{aws.endpoint}/", headers={"Origin": "https://example.com"})
    with urllib.request.urlopen(from_a_page, timeout=5) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers
