"""The operator's key: 32 random bytes in a Secret of its own namespace, made once. Every job's keys are derived from it.

To rotate: delete the Secret and restart the operator. Jobs that exist keep the keys they were made with; their progress reports
are refused from then on, everything else of them goes on.
"""

from __future__ import annotations

import base64
import secrets

from penstock_operator.kube import ApiError, Kube

NAME = "penstock-operator-key"


async def load_or_create(kube: Kube, namespace: str) -> bytes:
    """The key; made when it is not there yet. Two replicas starting at once end up with the same one."""
    while True:
        try:
            found = await kube.get("Secret", namespace, NAME)
            return base64.b64decode(found["data"]["key"])
        except ApiError as error:
            if error.reason != "NotFound":
                raise
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "penstock"}},
            "immutable": True,
            "data": {"key": base64.b64encode(secrets.token_bytes(32)).decode()},
        }
        try:
            await kube.create(body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
