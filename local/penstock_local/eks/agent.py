"""The Pod Identity agent: credentials for pods, at http://169.254.170.23/v1/credentials.

    python -m penstock_local.eks.agent --host ADDRESS --server URL --pki FOLDER --aws URL --cluster NAME

A pod shows the projected token of its service account; the cluster's API server says whose it is (TokenReview, audience
pods.eks.amazonaws.com); the ConfigMap of associations says which role that is; STS of the fake AWS gives credentials of the
role for an hour, under the session name and tags that EKS gives. Nothing is cached.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from penstock_local.eks import ACCOUNT, AUDIENCE, REGION

_ASSOCIATIONS = "/api/v1/namespaces/kube-system/configmaps/pod-identity-associations"
_SECONDS = 3600


class Refused(Exception):
    """What a pod is answered instead of credentials."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Agent:
    """Of one cluster; `pki`: the folder with the agent's certificate."""

    def __init__(self, server: str, pki: Path, aws: str, cluster: str) -> None:
        self._address, self._cluster = urlsplit(server).netloc, cluster
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "pod-identity-agent.crt", pki / "pod-identity-agent.key")
        self._sts: Any = boto3.client(
            "sts",
            endpoint_url=aws,
            region_name=REGION,
            aws_access_key_id="AKIAPODIDENTITYAGENT",
            aws_secret_access_key="none",
        )

    def credentials(self, token: str) -> dict[str, str]:
        """In the format of container credentials. Raises Refused."""
        if not token:
            raise Refused(400, "no token: send the content of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE as Authorization header")
        user = self._user(token)
        _, _, namespace, account = user["username"].split(":")
        role = (self._kubernetes("GET", _ASSOCIATIONS).get("data") or {}).get(f"{namespace}.{account}")
        if role is None:
            raise Refused(404, f"service account {namespace}/{account} has no association with a role")
        pod = {key.rpartition("/")[2]: values[0] for key, values in (user.get("extra") or {}).items()}
        tags = {
            "eks-cluster-arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{self._cluster}",
            "eks-cluster-name": self._cluster,
            "kubernetes-namespace": namespace,
            "kubernetes-service-account": account,
            "kubernetes-pod-name": pod.get("pod-name", ""),
            "kubernetes-pod-uid": pod.get("pod-uid", ""),
        }
        try:
            answer = self._sts.assume_role(
                RoleArn=role,
                RoleSessionName=f"eks-{self._cluster}-{pod.get('pod-name', account)}"[:64],
                DurationSeconds=_SECONDS,
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
        except (BotoCoreError, ClientError) as error:
            raise Refused(500, f"no credentials of {role}: {error}") from error
        made = answer["Credentials"]
        return {
            "AccessKeyId": made["AccessKeyId"],
            "SecretAccessKey": made["SecretAccessKey"],
            "Token": made["SessionToken"],
            "AccountId": role.split(":")[4],
            "Expiration": made["Expiration"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _user(self, token: str) -> dict[str, Any]:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = self._kubernetes("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
        user: dict[str, Any] = status.get("user") or {}
        if not status.get("authenticated"):
            raise Refused(401, f"the token is not good: {status.get('error') or 'the API server does not know it'}")
        if not user.get("username", "").startswith("system:serviceaccount:"):
            raise Refused(401, f"the token is {user.get('username')}'s, not a service account's")
        return user

    def _kubernetes(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        connection = http.client.HTTPSConnection(self._address, timeout=10, context=self._tls)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Refused(503, f"the API server does not answer: {error}") from error
        finally:
            connection.close()
        if response.status >= 300:
            raise Refused(503, f"the API server answered {response.status}: {answer.get('message')}")
        return answer


def serve(host: str, port: int, agent: Agent) -> None:
    """Serve for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                if self.path != "/v1/credentials":
                    raise Refused(404, f"no {self.path} here; credentials are at /v1/credentials")
                self._answer(200, agent.credentials(self.headers.get("Authorization", "")))
            except Refused as refused:
                self.log_message("%d %s", refused.status, refused)
                self._answer(refused.status, {"message": str(refused)})

        def _answer(self, status: int, answer: dict[str, str]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer((host, port), Handler)
    print(f"serving on {host}:{port}", flush=True)
    server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m penstock_local.eks.agent", description="The Pod Identity agent.")
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--server", required=True, help="URL of the API server")
    parser.add_argument("--pki", type=Path, required=True, help="folder with the cluster's CA and the agent's certificate")
    parser.add_argument("--aws", required=True, help="URL of the fake AWS")
    parser.add_argument("--cluster", required=True, help="name of the cluster")
    chosen = parser.parse_args()
    serve(chosen.host, chosen.port, Agent(chosen.server, chosen.pki, chosen.aws, chosen.cluster))


if __name__ == "__main__":
    main()
