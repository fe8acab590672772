"""What infra/aws refuses before it calls AWS, with messages that say what is allowed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aws.terraform import COLOR, terraform
from aws.test_checks import VARIABLES
from conftest import REPOSITORY

pytestmark = pytest.mark.terraform
SOURCE = REPOSITORY / "infra/aws/variables.tf"
GITHUB = VARIABLES["github"]
assert isinstance(GITHUB, dict)

# The variable, a part of the message, and values that are refused.
REFUSED: list[tuple[str, str, list[Any]]] = [
    ("name", "3 to 20 lowercase letters", ["Credit", "ab", "1credit", "credit-", "c" * 21, "credit_risk"]),
    ("region", "such as eu-central-1", ["Frankfurt", "eu-central", "eu-central-1a", ""]),
    ("domain", "such as scoring.example.org", ["localhost", "a.B.org", "https://a.org", "-a.org", "a..org"]),
    ("zone_id", "such as Z0123456789ABCDEFGHIJ", ["example.org", "/hostedzone/Z012345678", "z0123456789"]),
    ("allowed_cidrs", "at least one IPv4 network",
     [[], ["203.0.113.0"], ["2001:db8::/32"], ["203.0.113.7/24"], ["203.0.113.0/24", "everybody"]]),
    ("github", "OWNER/NAME", [GITHUB | {"repository": bad} for bad in ("credit-risk", "a/b/c", "https://a.b/c")]),
    ("github", "the numeric IDs that GitHub assigned",
     [GITHUB | {key: bad} for key in ("owner_id", "repository_id") for bad in (0, -1, None)]),
    ("github", "letters, digits, hyphens", [GITHUB | {"environment": bad} for bad in ("", "pro duction", "prod:*")]),
    ("github_oidc_provider_arn", "oidc-provider/token.actions.githubusercontent.com",
     ["token.actions.githubusercontent.com", "arn:aws:iam::1:oidc-provider/token.actions.githubusercontent.com",
      "arn:aws:iam::123456789012:oidc-provider/gitlab.com"]),
    ("vpc_cidr", "/16 to /20 outside 10.42.0.0/15",
     ["10.0.0.0", "10.0.0.0/8", "10.0.0.0/24", "10.42.0.0/16", "10.43.16.0/20", "fd00::/16"]),
    ("zone_count", "2 or 3", [0, 1, 4, 2.5]),
    ("k3s_version", "from v1.30 on", ["1.35.5+k3s1", "v1.35.5", "v1.29.1+k3s1", "latest", "v1.35.5+rke2r1"]),
    ("server_instance_type", "an x86-64 EC2 instance type",
     ["t4g.large", "m7g.xlarge", "c7gn.large", "a1.large", "t3"]),
    ("agent_instance_type", "an x86-64 EC2 instance type", ["t4g.medium", "c6gd.large", "medium", "t3."]),
    ("server_disk_gib", "a whole number, 20 to 1000", [19, 1001, 30.5, -30]),
    ("server_disk_snapshot_id", "such as snap-0123456789abcdef0", ["vol-0123456789abcdef0", "snap-XYZ", ""]),
    ("agents", "1 <= min <= max <= 50",
     [{"min": least, "max": most} for least, most in ((0, 4), (3, 2), (1, 51), (1.5, 2), (None, 2))]),
    ("database", "storage_gib 20 to 10000, backup_days 1 to 35",
     [{"storage_gib": 5}, {"storage_gib": 10001}, {"backup_days": 0}, {"backup_days": 36},
      {"instance_class": "t4g.micro"}]),
    ("decision_log", "seal_lock GOVERNANCE or COMPLIANCE",
     [{"seal_years": 0}, {"seal_years": 101}, {"seal_years": 1.5}, {"seal_lock": "governance"}]),
]  # fmt: skip
ALLOWED: list[tuple[str, Any]] = [
    *(("name", good) for good in ("abc", "c" * 20, "credit-risk-2")),
    *(("region", good) for good in ("us-east-1", "ap-southeast-3", "us-gov-west-1")),
    *(("allowed_cidrs", good) for good in (["0.0.0.0/0"], ["203.0.113.7/32", "10.0.0.0/8"])),
    *(("github", GITHUB | {"repository": good}) for good in ("a/b", "My-Org/my.repo_2")),
    ("github_oidc_provider_arn", "arn:aws-us-gov:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"),
    *(("vpc_cidr", good) for good in ("10.0.0.0/20", "172.16.0.0/16", "192.168.0.0/16")),
    ("zone_count", 3),
    *(("server_instance_type", good) for good in ("m7i.large", "c7i-flex.large", "g4dn.xlarge", "u-3tb1.56xlarge")),
    *(("agent_instance_type", good) for good in ("t3a.medium", "m6a.2xlarge", "gr6.4xlarge")),
    *(("server_disk_gib", good) for good in (20, 1000)),
    *(("agents", good) for good in ({"min": 1, "max": 1}, {"min": 50, "max": 50})),
    *(("database", good) for good in (None, {"instance_class": "db.r7g.large", "multi_az": True, "backup_days": 35})),
    *(("decision_log", good) for good in (None, {"seal_years": 10, "seal_lock": "COMPLIANCE"})),
    # null means the default.
    *((name, None) for name in ("name", "region", "zone_count", "agents", "server_disk_gib", "k3s_version")),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with only the variables: their rules need no provider."""
    made = tmp_path_factory.mktemp("variables")
    shutil.copy(SOURCE, made)
    return made


def plan(folder: Path, **changed: Any) -> tuple[int, str]:
    """Return the exit code of a plan with these variables and its output as one line."""
    (folder / "terraform.tfvars.json").write_text(json.dumps(VARIABLES | changed))
    result = subprocess.run([terraform(), "plan", "-input=false"], cwd=folder, capture_output=True, text=True)
    return result.returncode, " ".join(re.sub("[│╷╵]", "", COLOR.sub("", result.stdout + result.stderr)).split())


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [(variable, value, message) for variable, message, values in REFUSED for value in values],
    ids=str,
)
def test_an_invalid_value_is_refused_with_a_message_that_says_what_is_allowed(
    folder: Path, variable: str, value: Any, message: str
) -> None:
    code, output = plan(folder, **{variable: value})
    assert code == 1, output
    assert message in output
    assert re.search(rf"{variable}(\.\w+)?( and [\w.]+)?: ", output)


@pytest.mark.parametrize(("variable", "value"), ALLOWED, ids=str)
def test_a_valid_value_is_accepted(folder: Path, variable: str, value: Any) -> None:
    code, output = plan(folder, **{variable: value})
    assert code == 0, output


@pytest.mark.parametrize("variable", ["domain", "zone_id", "allowed_cidrs", "github"])
def test_a_variable_without_a_default_is_required(folder: Path, variable: str) -> None:
    (folder / "terraform.tfvars.json").write_text(
        json.dumps({key: value for key, value in VARIABLES.items() if key != variable})
    )
    result = subprocess.run(
        [terraform(), "plan", "-input=false", "-no-color"], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert f'The root module input variable "{variable}" is not set' in " ".join(result.stderr.split())


def test_every_validation_rule_is_tested() -> None:
    rules = re.findall(r'^    error_message = "(.*)"$', SOURCE.read_text(), re.MULTILINE)
    assert [rule for rule in rules if not any(part in rule for _, part, _ in REFUSED)] == []
