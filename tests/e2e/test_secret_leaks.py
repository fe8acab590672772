"""The built images hold no secrets, and the stack's own credentials stay in its Secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from e2e.archives import IMAGES, archive_of
from e2e.clients import Clients
from localcluster.cluster import Cluster
from localcluster.images import Image
from localcluster.stack import Stack
from security.secret_scan import secrets_in

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# What is no credential, though it is in a Secret beside one. SeaweedFS logs the id of its key, as AWS does.
PUBLIC_KEYS = {"username", "database", "access-key-id", "ca.crt", "namespace"}
# Helm's own record of the release contains the Secrets that it created.
HELM, TOKEN = "helm.sh/release.v1", "kubernetes.io/service-account-token"


@pytest.mark.soak
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_no_secrets(cluster: Cluster, image: Image, tmp_path: Path) -> None:
    assert secrets_in("image", archive_of(cluster, image), tmp_path) == []


def test_the_stacks_credentials_are_neither_logged_nor_anywhere_but_in_secrets(
    stack: Stack, loans: list[dict[str, Any]], tmp_path: Path
) -> None:
    credentials = {
        f"{secret['metadata']['name']}/{key}": base64.b64decode(value).decode()
        for secret in items(stack, "secrets")
        if secret["type"] not in {HELM, TOKEN}
        for key, value in secret.get("data", {}).items()
        if key not in PUBLIC_KEYS
    }
    assert {"postgres-credentials/password", "s3-credentials/secret-access-key"} <= set(credentials)
    # Something to log.
    with Clients(stack.url, stack.host, stack.api_key, loans) as clients:
        clients.wait_for_answers(20)
    logs = tmp_path / "logs"
    logs.mkdir()
    for pod in items(stack, "pods"):
        if pod["status"]["phase"] != "Pending":
            name = pod["metadata"]["name"]
            (logs / name).write_text(stack.kubectl("logs", name, "--all-containers"))
    kinds = "pods,deployments,statefulsets,jobs,cronjobs,configmaps,services,ingresses,events,modelpromotions"
    texts = {path.name: path.read_text() for path in logs.iterdir()} | {"objects": json.dumps(items(stack, kinds))}
    leaks = [
        f"{key} in {place}" for key, value in credentials.items() for place, text in texts.items() if value in text
    ]
    assert leaks == []
    assert secrets_in("fs", logs, tmp_path) == []


def items(stack: Stack, kinds: str) -> list[dict[str, Any]]:
    """Return the objects of some kinds in the stack's namespace."""
    found: list[dict[str, Any]] = json.loads(stack.kubectl("get", kinds, "--output=json"))["items"]
    return found
