"""Errors as AWS answers them, in the protocol of the caller: JSON, query (XML) or S3's XML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import escape


@dataclass
class AWSError(Exception):
    """An error answer: its code, what it says, the HTTP status, and members beyond the message."""

    code: str
    message: str
    status: int = 400
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def not_implemented(what: str) -> AWSError:
    """The fake does not have it. 501 is not retried by botocore, as 500 is."""
    return AWSError("NotImplemented", f"{what} is not in this fake AWS", 501)


def rendered(error: AWSError, protocol: str) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body. `protocol`: json, query, ec2 or s3."""
    if protocol == "json":
        body = {"__type": error.code, "message": error.message, "Message": error.message, **error.fields}
        headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", error.code)]
        return headers, json.dumps(body).encode()
    parts = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    request = f"<RequestId>{uuid4()}</RequestId>"
    text = {
        "s3": f"<Error>{parts}{request}</Error>",
        "ec2": f"<Response><Errors><Error>{parts}</Error></Errors>{request}</Response>",
        "query": f"<ErrorResponse><Error><Type>Sender</Type>{parts}</Error>{request}</ErrorResponse>",
    }[protocol]
    return [("Content-Type", "text/xml")], f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
