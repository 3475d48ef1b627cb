"""The fake AWS as a child process: started, asked where it serves, ended with its parent at the latest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from penstock_local.aws.client import Control
from penstock_local.errors import LocalError

ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"


class FakeAWS:
    """A running fake AWS with its state in `folder`; used as a context manager."""

    endpoint: str
    control: Control

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.log = folder / "aws.log"
        self._host, self._port = host, port
        self._process: subprocess.Popen[str] | None = None
        self._clients: dict[tuple[str, str], Any] = {}  # making one takes 30 ms

    def __enter__(self) -> FakeAWS:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "penstock_local.aws", "--host", self._host, "--port", str(self._port)]
        command += ["--state", str(self.folder), "--end-with-stdin"]
        with self.log.open("w") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self._process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._end()
            raise LocalError(f"the fake AWS did not start. The end of {self.log}:\n{self.log.read_text()[-2000:]}")
        self.endpoint = json.loads(line)["endpoint"]
        self.control = Control(self.endpoint)
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.clear()
        self._end()

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """What leads boto3 in another process here; `endpoint`: as that process reaches it, where it differs."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "AKIAPENSTOCKFAKEAWS0",
            "AWS_SECRET_ACCESS_KEY": "no-secret-of-anything",
        }

    def client(self, service: str, *, region: str = REGION) -> Any:
        """A boto3 client of this AWS, without retries, so that a fault is seen by the test that asked for it."""
        if (service, region) not in self._clients:
            import boto3
            from botocore.config import Config

            keys = self.environment()
            self._clients[service, region] = boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=self.endpoint,
                region_name=region,
                aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
                config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
            )
        return self._clients[service, region]

    def files(self, file_system_id: str) -> Path:
        """The folder that is the root of a fake Lustre file system."""
        return self.folder / "fsx" / file_system_id

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
