"""What Amazon EKS adds to Kubernetes, on a local cluster: the fake AWS, Pod Identity and the CSI plugin of FSx for Lustre.

Objects and pods are the same as on EKS: a PersistentVolume of driver fsx.csi.aws.com mounts, and a pod whose service account is
associated with a role gets credentials from http://169.254.170.23/v1/credentials. Each cluster has networks of its own, so
clusters side by side have these same addresses and never meet.
"""

from penstock_local.node import GATEWAY

REGION = "us-east-1"
ACCOUNT = "123456789012"

AWS_PORT = 4566
AWS_ENDPOINT = f"http://{GATEWAY}:{AWS_PORT}"
"""The fake AWS as nodes and pods reach it."""

AGENT_ADDRESS = "169.254.170.23"
AUDIENCE = "pods.eks.amazonaws.com"
