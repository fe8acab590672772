"""Backup and restore on a real Kubernetes: the database's volume and the artifacts are lost while clients score loans.

The release is in a namespace of its own, because other tests need their registry.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from mlflow import MlflowClient

from e2e.clients import Clients, failed
from e2e.registry_client import registry_client
from localcluster import backup
from localcluster.cluster import Cluster
from localcluster.console import ClusterError
from localcluster.port_forward import PortForward
from localcluster.stack import Stack
from registry_state import described, matching_files

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAME = "credit-risk"
QUICK = ["--synthetic-rows=3000", "--hidden=16", "--bins=8", "--batch-rows=64", "--heads=5", "--epochs=6",
         "--learning-rate=0.01", "--maximum-ece=0.2", "--minimum-air=0"]  # fmt: skip


@pytest.fixture(scope="module")
def own_stack(cluster: Cluster) -> Iterator[Stack]:
    """The whole stack with a quickly trained model in Production, and a ModelPromotion that serves it."""
    installed = Stack(cluster, namespace="e2e-backup", host="backup.credit-risk.test")
    try:
        installed.install(cluster.images(), ["--set", f"training.args={{{','.join(QUICK)}}}"])
        installed.wait_for_training()
        installed.follow_alias()
        installed.wait_for_scoring()
        yield installed
    finally:
        installed.kubectl("delete", "namespace", installed.namespace, "--wait=false", "--ignore-not-found")


def test_a_lost_database_and_lost_artifacts_are_restored_while_every_loan_is_scored(
    own_stack: Stack, loans: list[dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with registry_client(own_stack) as client:
        client.set_registered_model_alias(NAME, "audited", "1")
        client.set_registered_model_tag(NAME, "owner", "risk")
        run = client.create_run("0", tags={"note": "without a model"})
        client.log_metric(run.info.run_id, "auc", 0.81)
        before = at_rest(client)
    started = time.monotonic()
    backup.follow(own_stack, backup.back_up(own_stack))
    backup_seconds = time.monotonic() - started
    backup_id = capfd.readouterr().out.rpartition(" is complete")[0].rpartition(" ")[2]
    with Clients(own_stack.url, own_stack.host, own_stack.api_key, loans, rate=10) as clients:
        clients.wait_for_answers(20)
        lost_at = time.time()
        lose_database(own_stack)
        lose_artifacts(own_stack)
        started = time.monotonic()
        backup.follow(own_stack, backup.restore(own_stack, backup_id))
        restore_seconds = time.monotonic() - started
        with registry_client(own_stack) as client:
            assert described(client) == before
            files = matching_files(client, tmp_path)
        assert len(files) == 2 * len(before["versions"])
        assert all(files.values())
        # A new pod finds its model in the restored registry.
        own_stack.kubectl("rollout", "restart", "deployment/scoring")
        own_stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=180s")
        own_stack.kubectl("wait", "--for=condition=Ready", f"modelpromotion/{NAME}", "--timeout=120s")
        total_seconds = time.time() - lost_at
        clients.wait_for_answers(20)
    assert len(clients.answers) > 50
    assert failed(clients.answers) == []
    report = capfd.readouterr().out
    assert f"Restored backup {backup_id}" in report
    assert "Restore verified" in report
    with capfd.disabled():
        taken = dt.datetime.strptime(backup_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
        sys.stdout.write(
            f"\nbackup {backup_seconds:.1f} s; restore {restore_seconds:.1f} s; {total_seconds:.1f} s from the loss to "
            f"restarted pods; {lost_at - taken:.1f} s between the snapshot and the loss\n"
        )


def test_a_restore_from_a_damaged_backup_fails_and_changes_nothing(own_stack: Stack) -> None:
    backup.follow(own_stack, backup.back_up(own_stack))
    with store(own_stack) as s3, registry_client(own_stack) as client:
        before = described(client)
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket="backups", Prefix=NAME)["Contents"]]
        dump = max(key for key in keys if key.endswith("database.dump"))
        s3.put_object(Bucket="backups", Key=dump, Body=b"damaged")
        with pytest.raises(ClusterError, match=r"nothing was changed \(container fetch, exit code 3\)"):
            backup.follow(own_stack, backup.restore(own_stack, "latest"))
        assert described(client) == before


def at_rest(client: MlflowClient) -> dict[str, Any]:
    """Return the registry's state once the operator has finished tagging versions."""
    last = described(client)
    for _ in range(20):
        time.sleep(3)
        if (now := described(client)) == last:
            return now
        last = now
    raise AssertionError("the registry keeps changing")


@contextmanager
def store(stack: Stack) -> Iterator[Any]:
    """Yield a client of the stack's object store."""
    secret = json.loads(stack.kubectl("get", "secret", "s3-credentials", "-o", "jsonpath={.data}"))
    with PortForward(stack.kubectl_command(), "service/s3", 9000, stack.environment()) as address:
        yield boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=base64.b64decode(secret["access-key-id"]).decode(),
            aws_secret_access_key=base64.b64decode(secret["secret-access-key"]).decode(),
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required", retries={"max_attempts": 8}),
        )


def lose_database(stack: Stack) -> None:
    """Delete the database's volume; its StatefulSet comes back with an empty one."""
    stack.kubectl("scale", "statefulset/postgres", "--replicas=0")
    stack.kubectl("wait", "--for=delete", "pod/postgres-0", "--timeout=120s")
    stack.kubectl("delete", "pvc", "data-postgres-0", "--timeout=120s")
    stack.kubectl("scale", "statefulset/postgres", "--replicas=1")
    stack.kubectl("rollout", "status", "statefulset/postgres", "--timeout=180s")
    count = (
        'psql --tuples-only --no-align --username "$POSTGRES_USER" "$POSTGRES_DB" --command "SELECT count(*) FROM runs"'
    )
    # Either there is no such table, or MLflow's pod was restarted and has created an empty one.
    answer = stack.kubectl("exec", "postgres-0", "--", "sh", "-c", f"{count} || echo 0")
    assert answer.strip() == "0"


def lose_artifacts(stack: Stack) -> None:
    """Delete every object of the artifact bucket."""
    with store(stack) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="mlflow")
        for key in [item["Key"] for page in pages for item in page.get("Contents", [])]:
            s3.delete_object(Bucket="mlflow", Key=key)
        assert s3.list_objects_v2(Bucket="mlflow")["KeyCount"] == 0
