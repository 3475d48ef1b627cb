"""The keys of a ring, derived from the operator's key and the job's uid.

Nothing about them is stored but the Secret itself: the same job always gets the same keys, so a crash between two writes or a
Secret deleted by hand is healed by writing it again, and the operator never needs to read a Secret. Without the operator's key
they cannot be computed; a new job has a new uid and so new keys.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True, slots=True)
class RingKeys:
    """ed25519 keys in OpenSSH format: private ones as PEM text, public ones as `ssh-ed25519 AAAA…`."""

    host_private: str
    host_public: str
    user_private: str
    user_public: str
    progress_token: str


def ring_keys(operator_key: bytes, namespace: str, name: str, uid: str) -> RingKeys:
    """Derive the two key pairs and the progress token of one job."""
    host_private, host_public = _pair(operator_key, f"penstock.dev/host/{namespace}/{name}/{uid}")
    user_private, user_public = _pair(operator_key, f"penstock.dev/user/{namespace}/{name}/{uid}")
    return RingKeys(host_private, host_public, user_private, user_public, progress_token(operator_key, namespace, name, uid))


def progress_token(operator_key: bytes, namespace: str, name: str, uid: str) -> str:
    """Bearer token with which a job's rank 0 reports progress; good for that job alone."""
    return base64.urlsafe_b64encode(_mac(operator_key, f"penstock.dev/progress/{namespace}/{name}/{uid}")).decode().rstrip("=")


def _mac(key: bytes, purpose: str) -> bytes:
    return hmac.new(key, purpose.encode(), hashlib.sha256).digest()


def _pair(key: bytes, purpose: str) -> tuple[str, str]:
    private = Ed25519PrivateKey.from_private_bytes(_mac(key, purpose))
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(), public
