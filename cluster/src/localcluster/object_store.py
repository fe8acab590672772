"""Upload training data to the stack's object store."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import boto3
from botocore.config import Config

from localcluster.console import ClusterError
from localcluster.namespace import Namespace
from localcluster.port_forward import PortForward

BUCKET = "data"
PORT = 9000


def upload(namespace: Namespace, file: Path) -> str:
    """Upload a data file under a key that contains its digest, and return its s3:// URL.

    Raises:
        ClusterError: The file does not exist, or the object store cannot be reached.
    """
    if not file.is_file():
        raise ClusterError(f"no such data file: {file}")
    secret = json.loads(namespace.kubectl("get", "secret", "s3-credentials", "-o", "jsonpath={.data}"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    key = f"{digest}/{file.name}"
    with PortForward(namespace.kubectl_command(), "service/s3", PORT, namespace.environment()) as url:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=_decoded(secret["access-key-id"]),
            aws_secret_access_key=_decoded(secret["secret-access-key"]),
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required", retries={"max_attempts": 8}),
        )
        client.upload_file(str(file), BUCKET, key)
    return f"s3://{BUCKET}/{key}"


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
