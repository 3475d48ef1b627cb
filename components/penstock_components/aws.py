"""AWS clients, made one way: region and endpoint from the environment, standard retries, identity from the pod.

Credentials come through boto3's default chain (in a pod: EKS Pod Identity's endpoint), never from parameters. A client is made
once for each environment and shared: boto3's clients are thread-safe, making them is not.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, CredentialRetrievalError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from .errors import ComponentError, Outage
from .waiting import FOREVER, Patience

CONNECTIONS = 32
# EKS Pod Identity's agent starts within this on a new node. What it still refuses then, a person has to put right.
CREDENTIALS = Patience(
    300,
    "is the service account of this pod associated with a role, does the role's trust policy let pods.eks.amazonaws.com do "
    "sts:AssumeRole and sts:TagSession, and does the eks-pod-identity-agent run on the node?",
)
_making = threading.Lock()


def client(service: str) -> Any:
    """A boto3 client of `service` ("s3", "sagemaker", ...). Untyped, as boto3 builds its methods from data at run time.

    Raises:
        ComponentError: no region is set.
    """
    with _making:
        return _client(service, frozenset((key, value) for key, value in os.environ.items() if key.startswith("AWS_")))


@functools.lru_cache(maxsize=32)
def _client(service: str, environment: frozenset[tuple[str, str]]) -> Any:
    variables = dict(environment)
    session = boto3.session.Session(region_name=variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION"))
    if session.region_name is None:
        raise ComponentError("no AWS region: set AWS_REGION on the pod (EKS Pod Identity does not set it)")
    # Behind an own endpoint (the fake AWS, MinIO, a proxy) bucket.<host> does not resolve.
    own_endpoint = any(key.startswith("AWS_ENDPOINT_URL") for key in variables)
    config = Config(
        retries={"mode": "standard", "max_attempts": 6},
        max_pool_connections=CONNECTIONS,
        connect_timeout=10,
        read_timeout=60,
        user_agent_extra="penstock-components",
        s3={"addressing_style": "path" if own_endpoint else "auto"},
    )
    make: Any = session.client  # its stub accepts literal service names only
    return make(service, config=config)


def transient(error: Exception) -> bool:
    """Whether asking again later may help: no connection, throttled, or a fault on AWS's side (5xx)."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or code(error) in {"ThrottlingException", "Throttling", "RequestLimitExceeded"}
    return isinstance(error, HTTPClientError | NoConnection | Outage)


def patience(error: Exception) -> Patience | None:
    """How long a wait asks on past this error: an outage ends by itself, credentials that do not come only on a new node."""
    if isinstance(error, CredentialRetrievalError):
        return CREDENTIALS
    return FOREVER if transient(error) else None


def code(error: ClientError) -> str:
    """The error code of an AWS answer, such as "NoSuchKey" or "ThrottlingException"."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message(error: ClientError) -> str:
    """AWS's own words, with the code: "AccessDenied: User ... is not authorized"."""
    return f"{code(error)}: {error.response.get('Error', {}).get('Message', '')}"
