"""`terraform destroy` leaves nothing behind.

This file must sort after all others that use `applied`, because it destroys what they test.
"""

from __future__ import annotations

import pytest

from aws.conftest import Applied

pytestmark = [pytest.mark.slow, pytest.mark.terraform]


def test_destroy_leaves_nothing(applied: Applied) -> None:
    applied.workspace.run("destroy", "-auto-approve", "-input=false")
    assert applied.client("s3").list_buckets()["Buckets"] == []
    assert applied.client("ecr").describe_repositories()["repositories"] == []
    assert applied.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    roles = [role["RoleName"] for role in applied.client("iam").list_roles()["Roles"]]
    assert not [role for role in roles if role.startswith("credit-risk")]
