"""The effect of other variables, according to a plan; nothing is applied."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from aws.conftest import Applied
from aws.iam import actions

pytestmark = [pytest.mark.slow, pytest.mark.terraform]


def planned(applied: Applied, folder: Path, **variables: object) -> dict[str, Any]:
    """Return the plan for these variables as parsed JSON."""
    (folder / "it.tfvars.json").write_text(json.dumps(variables))
    plan = folder / "plan"
    applied.workspace.run("plan", "-input=false", f"-var-file={folder}/it.tfvars.json", f"-out={plan}")
    return dict(json.loads(applied.workspace.run("show", "-json", str(plan))))


def resources(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every planned resource."""
    root = plan["planned_values"]["root_module"]
    return [resource for module in [root, *root["child_modules"]] for resource in module.get("resources", [])]


@pytest.fixture(scope="module")
def available(applied: Applied, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plan of the highly available setup of docs/aws.md, with the default deletion protection."""
    return planned(
        applied, tmp_path_factory.mktemp("available"), zone_count=3, nat_per_zone=True, agents={"min": 3, "max": 6},
        database={"instance_class": "db.t4g.small", "multi_az": True}, deletion_protection=True,
    )  # fmt: skip


def test_the_highly_available_setup_has_three_zones_each_with_its_own_nat_gateway(available: dict[str, Any]) -> None:
    plan = available
    found = Counter(resource["type"] for resource in resources(plan))
    assert (found["aws_nat_gateway"], found["aws_eip"], found["aws_subnet"]) == (3, 3, 6)
    values = {resource["type"]: resource["values"] for resource in resources(plan)}
    assert values["aws_db_instance"]["multi_az"] is True
    assert (values["aws_autoscaling_group"]["min_size"], values["aws_autoscaling_group"]["max_size"]) == (3, 6)
    # No resource that holds data is replaced by the change.
    deleted = {change["type"] for change in plan["resource_changes"] if "delete" in change["change"]["actions"]}
    assert not deleted & {"aws_db_instance", "aws_ebs_volume", "aws_s3_bucket", "aws_ecr_repository", "aws_vpc"}


def test_mlflow_may_delete_objects_only_with_garbage_collection_enabled(applied: Applied, tmp_path: Path) -> None:
    plan = planned(applied, tmp_path, mlflow_garbage_collection=True)
    changed = [change for change in plan["resource_changes"] if change["change"]["actions"] != ["no-op"]]
    assert [change["address"] for change in changed] == ["module.access.aws_iam_policy.mlflow_s3_write"]
    (change,) = changed
    before, after = (json.loads(change["change"][when]["policy"]) for when in ("before", "after"))
    assert actions(before) == {"s3:PutObject"}
    assert actions(after) == {"s3:PutObject", "s3:DeleteObject"}


def test_a_new_k3s_version_replaces_the_instances_and_keeps_the_disk(applied: Applied, tmp_path: Path) -> None:
    plan = planned(applied, tmp_path, k3s_version="v1.36.1+k3s1")
    changed = {
        change["address"]: change["change"]["actions"]
        for change in plan["resource_changes"]
        if change["change"]["actions"] != ["no-op"]
    }
    assert "delete" in changed["module.cluster.aws_instance.server"]
    assert changed["module.cluster.aws_launch_template.agent"] == ["update"]
    assert changed["module.cluster.aws_autoscaling_group.agents"] == ["update"]
    kept = {"module.cluster.aws_ebs_volume.data", "module.cluster.aws_network_interface.server"}
    assert not kept & set(changed)


def test_deletion_protection_covers_everything_that_holds_data(available: dict[str, Any]) -> None:
    found = {resource["type"]: resource["values"] for resource in resources(available)}
    assert found["aws_lb"]["enable_deletion_protection"] is True
    assert found["aws_db_instance"]["deletion_protection"] is True
    assert found["aws_s3_bucket"]["force_destroy"] is False
    assert found["aws_ecr_repository"]["force_delete"] is False


def test_without_a_decision_log_there_are_neither_its_buckets_nor_its_roles(applied: Applied, tmp_path: Path) -> None:
    plan = planned(applied, tmp_path, decision_log=None)
    deleted = {
        change["address"].removeprefix("module.") for change in plan["resource_changes"]
        if change["change"]["actions"] == ["delete"] and change["type"] in {"aws_s3_bucket", "aws_iam_role"}
    }  # fmt: skip
    assert deleted == {
        'storage.aws_s3_bucket.this["decisions"]', 'storage.aws_s3_bucket.this["seals"]',
        "access.aws_iam_role.decisions[0]", "access.aws_iam_role.api[0]",
    }  # fmt: skip
    values = yaml.safe_load(plan["planned_values"]["outputs"]["helm_values"]["value"])
    assert values["global"]["decisions"] == {}
    assert set(values["global"]["s3"]["roleArns"]) == {"mlflow", "training", "backup"}
