"""The permissions of each role, call by call, and that docs/aws.md lists exactly those."""

from __future__ import annotations

import re
from typing import Any

import pytest

from aws.conftest import Applied
from aws.iam import Call, actions, allowed, may_assume, role_policies
from aws.terraform import ACCOUNT, REGION
from conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.terraform]

ROLES = ["agent", "server", "mlflow", "training", "backup", "decisions", "api", "deploy"]
READERS = {"agent", "server", "mlflow", "training", "backup"}
MODELS = f"arn:aws:s3:::credit-risk-artifacts-{ACCOUNT}"
BACKUPS = f"arn:aws:s3:::credit-risk-backups-{ACCOUNT}"
DECISIONS = f"arn:aws:s3:::credit-risk-decisions-{ACCOUNT}"
SEALS = f"arn:aws:s3:::credit-risk-seals-{ACCOUNT}"
KEYS = f"arn:aws:s3:::credit-risk-identity-{ACCOUNT}"
API = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/credit-risk/api"
FOREIGN = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/another"
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/credit-risk"
INSTANCE = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-0123456789abcdef0"
FORWARD = f"arn:aws:ssm:{REGION}::document/AWS-StartPortForwardingSession"
GROUP = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:uuid:autoScalingGroupName"
SERVER_TAG = {"ssm:resourceTag/Name": "credit-risk-server"}

# role, call, allowed?
MATRIX: list[tuple[str, Call, bool]] = [
    *((role, Call("ecr:GetAuthorizationToken", "*"), True) for role in ("agent", "server", "deploy")),
    *((role, Call("ecr:BatchGetImage", API), True) for role in ("agent", "server", "deploy")),
    *((role, Call("ecr:PutImage", API), role == "deploy") for role in ROLES),
    *((role, Call("ecr:PutImage", FOREIGN), False) for role in ROLES),
    *((role, Call("ecr:BatchDeleteImage", API), False) for role in ROLES),
    *((role, Call("ecr:SetRepositoryPolicy", API), False) for role in ROLES),
    *((role, Call("s3:GetObject", f"{MODELS}/1/model.onnx"), role in READERS) for role in ROLES),
    *((role, Call("s3:ListBucket", MODELS), role in READERS) for role in ROLES),
    # A restore writes artifacts too.
    *((role, Call("s3:PutObject", f"{MODELS}/1/model.onnx"), role in {"mlflow", "backup"}) for role in ROLES),
    *((role, Call("s3:DeleteObject", f"{MODELS}/1/model.onnx"), False) for role in ROLES),
    *((role, Call("s3:DeleteBucket", MODELS), False) for role in ROLES),
    *((role, Call("s3:PutBucketPolicy", MODELS), False) for role in ROLES),
    *((role, Call("s3:GetObject", "arn:aws:s3:::another/file"), False) for role in ROLES),
    *((role, Call("s3:PutObject", f"{BACKUPS}/etcd/snapshot"), role == "server") for role in ROLES),
    *((role, Call("s3:PutObject", f"{BACKUPS}/elsewhere"), False) for role in ROLES),
    *((role, Call("s3:GetObject", f"{BACKUPS}/etcd/snapshot"), role == "server") for role in ROLES),
    *((role, Call(f"s3:{action}Object", f"{BACKUPS}/registry/backups/1/manifest.json"), role == "backup")
      for role in ROLES for action in ("Get", "Put", "Delete")),
    *((role, Call("s3:DeleteObjectVersion", f"{BACKUPS}/registry/backups/1/manifest.json"), False) for role in ROLES),
    *((role, Call("s3:DeleteObject", f"{BACKUPS}/etcd/snapshot"), role == "server") for role in ROLES),
    *((role, Call(f"s3:{action}Object", f"{DECISIONS}/decisions/archive/decisions/part-0.parquet"), role == "decisions")
      for role in ROLES for action in ("Get", "Put", "Delete")),
    *((role, Call(f"s3:{action}Object", f"{DECISIONS}/decisions/handover/segment"), role in {"decisions", "api"})
      for role in ROLES for action in ("Get", "Put", "Delete")),
    *((role, Call("s3:ListBucket", DECISIONS), role in {"decisions", "api"}) for role in ROLES),
    *((role, Call(f"s3:{action}Object", f"{SEALS}/decisions/seals/2026-05-10.json"), role == "decisions")
      for role in ROLES for action in ("Get", "Put")),
    *((role, Call(f"s3:{action}", f"{SEALS}/decisions/seals/2026-05-10.json"), False)
      for role in ROLES for action in ("DeleteObject", "DeleteObjectVersion", "BypassGovernanceRetention",
                                       "PutObjectRetention")),
    *((role, Call("s3:PutObject", f"{KEYS}/openid/v1/jwks"), role == "server") for role in ROLES),
    *((role, Call("s3:PutObject", f"{KEYS}/ca.crt"), role == "server") for role in ROLES),
    *((role, Call("s3:PutObject", f"{KEYS}/index.html"), False) for role in ROLES),
    *((role, Call("ssm:GetParameter", f"{PARAMETER}/join-token"), role == "agent") for role in ROLES),
    *((role, Call("ssm:GetParameter", f"{PARAMETER}/server-token"), role == "server") for role in ROLES),
    *((role, Call("ssm:GetParameter", f"{PARAMETER}/database-password"), role == "server") for role in ROLES),
    *((role, Call("ssm:PutParameter", f"{PARAMETER}/join-token"), role == "server") for role in ROLES),
    *((role, Call("ssm:PutParameter", f"{PARAMETER}/server-token"), False) for role in ROLES),
    *((role, Call("ssmmessages:OpenDataChannel", "*"), role in {"agent", "server"}) for role in ROLES),
    *((role, Call("ssm:SendCommand", INSTANCE, SERVER_TAG), False) for role in ROLES),
    *((role, Call("autoscaling:CompleteLifecycleAction", f"{GROUP}/credit-risk-agents"), role == "server")
      for role in ROLES),
    *((role, Call("autoscaling:CompleteLifecycleAction", f"{GROUP}/another"), False) for role in ROLES),
    *((role, Call("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/credit-risk-server"), False) for role in ROLES),
    *((role, Call("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/credit-risk-mlflow"), False) for role in ROLES),
    *((role, Call("ec2:RunInstances", "*"), False) for role in ROLES),
    # A port-forward to the server, but neither a shell nor another instance.
    ("deploy", Call("ssm:StartSession", FORWARD), True),
    ("deploy", Call("ssm:StartSession", INSTANCE, {**SERVER_TAG, "ssm:SessionDocumentAccessCheck": "true"}), True),
    ("deploy", Call("ssm:StartSession", INSTANCE, {**SERVER_TAG, "ssm:SessionDocumentAccessCheck": "false"}), False),
    ("deploy", Call("ssm:StartSession", INSTANCE, {"ssm:resourceTag/Name": "credit-risk-agent"}), False),
    ("deploy", Call("ssm:StartSession", FORWARD.replace("PortForwarding", "Interactive")), False),
    ("deploy", Call("ssm:StartSession", f"arn:aws:ssm:{REGION}:{ACCOUNT}:document/SSM-SessionManagerRunShell"), False),
    ("deploy", Call("ssm:TerminateSession", f"arn:aws:ssm:{REGION}:{ACCOUNT}:session/AROA:run-1",
                    {"aws:userid": "AROA:run"}), True),
    ("deploy", Call("ssm:TerminateSession", f"arn:aws:ssm:{REGION}:{ACCOUNT}:session/AIDA:somebody-1",
                    {"aws:userid": "AROA:run"}), False),
]  # fmt: skip


@pytest.fixture(scope="module")
def policies(applied: Applied) -> dict[str, dict[str, Any]]:
    """Each role's policies by name."""
    iam = applied.client("iam")
    return {role: role_policies(iam, f"credit-risk-{role}") for role in ROLES}


@pytest.mark.parametrize(("role", "call", "expected"), MATRIX, ids=str)
def test_a_role_is_allowed_exactly_the_expected_calls(
    policies: dict[str, dict[str, Any]], role: str, call: Call, expected: bool
) -> None:
    assert allowed(policies[role].values(), call) is expected


def test_no_policy_has_a_wildcard_action(policies: dict[str, dict[str, Any]]) -> None:
    own = [
        policy
        for found in policies.values()
        for name, policy in found.items()
        if not name.startswith("AmazonEC2ContainerRegistry")
    ]
    assert own
    assert not [action for policy in own for action in actions(policy) if "*" in action]


def test_node_roles_can_pull_images_and_read_models(policies: dict[str, dict[str, Any]]) -> None:
    for role in ("agent", "server"):
        assert {
            "AmazonEC2ContainerRegistryPullOnly",
            "AmazonEC2ContainerRegistryReadOnly",
            "credit-risk-mlflow-s3-access",
        } <= set(policies[role])
    assert actions(policies["agent"]["credit-risk-mlflow-s3-access"]) == {"s3:GetObject", "s3:ListBucket"}


GITHUB = f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
SUBJECT = "repo:acme@11/credit-risk@22:environment:production"


@pytest.mark.parametrize(
    ("subject", "audience", "expected"),
    [
        (SUBJECT, "sts.amazonaws.com", True),
        (SUBJECT, "somebody-else", False),
        ("repo:acme@11/credit-risk@22:environment:staging", "sts.amazonaws.com", False),
        ("repo:acme@11/credit-risk@22:ref:refs/heads/main", "sts.amazonaws.com", False),
        ("repo:acme@11/another@33:environment:production", "sts.amazonaws.com", False),
        # Someone else took over the name.
        ("repo:acme@99/credit-risk@98:environment:production", "sts.amazonaws.com", False),
        ("repo:acme/credit-risk:environment:production", "sts.amazonaws.com", False),
    ],
)
def test_only_this_repository_and_environment_may_deploy(
    applied: Applied, subject: str, audience: str, expected: bool
) -> None:
    trust = applied.client("iam").get_role(RoleName="credit-risk-deploy")["Role"]["AssumeRolePolicyDocument"]
    host = "token.actions.githubusercontent.com"
    assert may_assume(trust, GITHUB, {f"{host}:sub": subject, f"{host}:aud": audience}) is expected


@pytest.mark.parametrize("role", ["mlflow", "training", "backup", "decisions", "api"])
@pytest.mark.parametrize(
    ("namespace", "account", "expected"),
    [("credit-risk", "own", True), ("credit-risk", "default", False), ("default", "own", False)],
)
def test_only_a_pods_own_service_account_can_assume_its_role(
    applied: Applied, role: str, namespace: str, account: str, expected: bool
) -> None:
    trust = applied.client("iam").get_role(RoleName=f"credit-risk-{role}")["Role"]["AssumeRolePolicyDocument"]
    host = applied.outputs["github_variables"]["K3S_CA_URL"].removeprefix("https://").partition("/")[0]
    subject = f"system:serviceaccount:{namespace}:{role if account == 'own' else account}"
    claims = {f"{host}:sub": subject, f"{host}:aud": "sts.amazonaws.com"}
    assert may_assume(trust, f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}", claims) is expected


def test_the_documentation_lists_exactly_the_actual_policies(policies: dict[str, dict[str, Any]]) -> None:
    text = (REPOSITORY / "docs" / "aws.md").read_text()
    rows = re.findall(r"^\| `([a-z]+)` \| `([\w-]+)` \| ([^|]+) \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
    documented = {
        (role, policy): None if actions_cell.startswith("AWS's own") else set(re.findall(r"`([^`]+)`", actions_cell))
        for role, policy, actions_cell in rows
    }
    real = {
        (role, name): None if name.startswith("AmazonEC2") else actions(policy)
        for role, found in policies.items()
        for name, policy in found.items()
    }
    assert documented == real
