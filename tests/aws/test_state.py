"""infra/aws/state: the bucket that holds Terraform's state, applied to a moto server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aws.terraform import ACCOUNT, Workspace, client, moto_server

pytestmark = [pytest.mark.slow, pytest.mark.terraform]


def test_the_state_bucket_is_private_versioned_and_protected_from_destroy(tmp_path: Path) -> None:
    with moto_server(tmp_path / "moto.log") as endpoint:
        workspace = Workspace.make(tmp_path, endpoint, "infra/aws/state")
        assert json.loads(workspace.run("validate", "-json"))["diagnostics"] == []
        workspace.run("apply", "-auto-approve", "-input=false")
        assert workspace.try_run("plan", "-detailed-exitcode", "-input=false").returncode == 0
        name = workspace.outputs()["bucket"]
        s3 = client("s3", endpoint)
        assert name == f"credit-risk-state-{ACCOUNT}"
        assert set(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()) == {True}
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        assert s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        (denied,) = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
        assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
        refused = workspace.try_run("destroy", "-auto-approve", "-input=false")
        assert refused.returncode == 1
        assert "Instance cannot be destroyed" in refused.stderr
