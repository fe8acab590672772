"""What exists after `terraform apply`, read through AWS's own APIs, and that a second plan is empty."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from aws.conftest import Applied

pytestmark = [pytest.mark.slow, pytest.mark.terraform]


def test_a_second_plan_changes_nothing(applied: Applied) -> None:
    result = applied.workspace.try_run("plan", "-detailed-exitcode", "-input=false")
    assert result.returncode == 0, result.stdout + result.stderr


def test_terraform_validates_without_errors_or_warnings(applied: Applied) -> None:
    result = json.loads(applied.workspace.run("validate", "-json"))
    assert (result["valid"], result["diagnostics"]) == (True, [])


def security_groups(applied: Applied) -> dict[str, Any]:
    vpc = {"Name": "tag:Name", "Values": ["credit-risk"]}
    (network,) = applied.client("ec2").describe_vpcs(Filters=[vpc])["Vpcs"]
    groups = applied.client("ec2").describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [network["VpcId"]]}])
    return {group["GroupName"]: group for group in groups["SecurityGroups"]}


def networks(group: dict[str, Any], direction: str) -> set[tuple[str, int, int]]:
    """Return (network, first port, last port) of the rules that name networks rather than other groups."""
    return {
        (address, rule["FromPort"], rule["ToPort"])
        for rule in group[direction]
        for address in [
            *(entry["CidrIp"] for entry in rule["IpRanges"]),
            *(entry["CidrIpv6"] for entry in rule.get("Ipv6Ranges", [])),
        ]
    }


def test_only_the_load_balancer_is_open_to_the_allowed_networks_on_ports_80_and_443(applied: Applied) -> None:
    open_rules = {name: networks(group, "IpPermissions") for name, group in security_groups(applied).items()}
    assert {name: rules for name, rules in open_rules.items() if rules} == {
        "credit-risk-entry": {("203.0.113.0/24", 80, 80), ("203.0.113.0/24", 443, 443)}
    }


def test_only_nodes_can_reach_the_kubernetes_api(applied: Applied) -> None:
    groups = security_groups(applied)
    sources = {
        pair["GroupId"]
        for rule in groups["credit-risk-server"]["IpPermissions"]
        if rule["FromPort"] <= 6443 <= rule["ToPort"]
        for pair in rule["UserIdGroupPairs"]
    }
    assert sources == {groups["credit-risk-nodes"]["GroupId"]}


def test_nodes_can_connect_out_only_by_https_and_the_default_group_is_closed(applied: Applied) -> None:
    groups = security_groups(applied)
    assert networks(groups["credit-risk-nodes"], "IpPermissionsEgress") == {("0.0.0.0/0", 443, 443)}
    assert groups["default"]["IpPermissions"] == groups["default"]["IpPermissionsEgress"] == []


def test_agents_are_in_private_subnets_in_two_zones(applied: Applied) -> None:
    (group,) = applied.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    subnets = applied.client("ec2").describe_subnets(SubnetIds=group["VPCZoneIdentifier"].split(","))["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)


def buckets(applied: Applied) -> list[str]:
    return [bucket["Name"] for bucket in applied.client("s3").list_buckets()["Buckets"]]


def test_buckets_are_private_versioned_encrypted_and_tls_only(applied: Applied) -> None:
    s3 = applied.client("s3")
    assert {name.rsplit("-", 1)[0] for name in buckets(applied)} == {
        "credit-risk-artifacts",
        "credit-risk-backups",
        "credit-risk-identity",
        "credit-risk-decisions",
        "credit-risk-seals",
    }
    for name in buckets(applied):
        assert set(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()) == {True}
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        assert s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        statements = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
        (denied,) = [statement for statement in statements if statement["Effect"] == "Deny"]
        assert denied["Principal"] == "*" or denied["Principal"] == {"AWS": "*"}
        assert (denied["Action"], denied["Condition"]) == ("s3:*", {"Bool": {"aws:SecureTransport": "false"}})


def test_seals_are_locked_and_applicants_data_does_not_stay_in_old_versions(applied: Applied) -> None:
    s3 = applied.client("s3")
    names = {name.rsplit("-", 1)[0].removeprefix("credit-risk-"): name for name in buckets(applied)}
    lock = s3.get_object_lock_configuration(Bucket=names["seals"])["ObjectLockConfiguration"]
    assert lock["ObjectLockEnabled"] == "Enabled"
    retention = lock["Rule"]["DefaultRetention"]
    assert (retention["Mode"], retention["Years"]) == ("GOVERNANCE", 5)
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=names["decisions"])["Rules"]
    assert rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 7


def test_only_cloudfront_can_read_the_public_keys(applied: Applied) -> None:
    (name,) = [name for name in buckets(applied) if "identity" in name]
    statements = json.loads(applied.client("s3").get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    (read,) = [statement for statement in statements if statement["Effect"] == "Allow"]
    assert read["Principal"] == {"Service": "cloudfront.amazonaws.com"}
    assert read["Action"] == "s3:GetObject"
    assert "distribution/" in read["Condition"]["StringEquals"]["aws:SourceArn"]


def test_image_tags_are_immutable_and_images_are_scanned(applied: Applied) -> None:
    ecr = applied.client("ecr")
    repositories = ecr.describe_repositories()["repositories"]
    assert {repository["repositoryName"] for repository in repositories} == {
        f"credit-risk/{image}" for image in ("api", "training", "mlflow", "operator", "decisions")
    }
    for repository in repositories:
        assert repository["imageTagMutability"] == "IMMUTABLE"
        assert repository["imageScanningConfiguration"]["scanOnPush"] is True
        assert ecr.get_lifecycle_policy(repositoryName=repository["repositoryName"])["lifecyclePolicyText"]


def test_instances_require_metadata_tokens_and_ignore_pods(applied: Applied) -> None:
    ec2 = applied.client("ec2")
    (template,) = ec2.describe_launch_template_versions(
        LaunchTemplateName="credit-risk-agents", Versions=["$Latest"]
    )["LaunchTemplateVersions"]  # fmt: skip
    options = template["LaunchTemplateData"]["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    server = server_instance(applied)["MetadataOptions"]
    assert (server["HttpTokens"], server["HttpPutResponseHopLimit"]) == ("required", 1)


def server_instance(applied: Applied) -> dict[str, Any]:
    ids = [applied.outputs["server_instance_id"]]
    (reservation,) = applied.client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
    return dict(reservation["Instances"][0])


def test_disks_are_encrypted(applied: Applied) -> None:
    ec2 = applied.client("ec2")
    (data,) = ec2.describe_volumes(VolumeIds=[applied.outputs["data_volume_id"]])["Volumes"]
    assert (data["Encrypted"], data["VolumeType"]) == (True, "gp3")
    (template,) = ec2.describe_launch_template_versions(
        LaunchTemplateName="credit-risk-agents", Versions=["$Latest"]
    )["LaunchTemplateVersions"]  # fmt: skip
    (disk,) = template["LaunchTemplateData"]["BlockDeviceMappings"]
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["VolumeType"]) == (True, "gp3")


def test_there_are_no_ssh_keys_and_no_iam_users(applied: Applied) -> None:
    assert not server_instance(applied).get("KeyName")
    assert applied.client("ec2").describe_key_pairs()["KeyPairs"] == []
    assert applied.client("iam").list_users()["Users"] == []


def test_agents_are_drained_before_they_are_terminated(applied: Applied) -> None:
    (hook,) = applied.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName="credit-risk-agents")[
        "LifecycleHooks"
    ]
    assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert (hook["DefaultResult"], hook["HeartbeatTimeout"]) == ("CONTINUE", 600)


def test_the_load_balancer_serves_tls_and_redirects_plain_http(applied: Applied) -> None:
    elb = applied.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    listeners = {
        entry["Port"]: entry
        for entry in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    }
    assert set(listeners) == {80, 443}
    (redirect,) = listeners[80]["DefaultActions"]
    assert (redirect["Type"], redirect["RedirectConfig"]["Protocol"]) == ("redirect", "HTTPS")
    assert listeners[443]["Certificates"]
    assert "TLS13" in listeners[443]["SslPolicy"]


def test_the_load_balancer_checks_each_nodes_own_traefik_on_its_manifests_ports(applied: Applied) -> None:
    (target,) = applied.client("elbv2").describe_target_groups()["TargetGroups"]
    manifest = yaml.safe_load((applied.workspace.folder / "../../manifests/k3s-traefik.yaml").read_text())
    values = yaml.safe_load(manifest["spec"]["valuesContent"])
    assert values["service"]["spec"]["externalTrafficPolicy"] == "Local"
    assert (target["HealthCheckPath"], target["HealthCheckPort"]) == (
        "/ping",
        str(values["ports"]["traefik"]["nodePort"]),
    )
    assert target["Port"] == values["ports"]["websecure"]["nodePort"]


def test_no_secret_appears_in_the_state_user_data_or_outputs(applied: Applied) -> None:
    ssm = applied.client("ssm")
    secrets = [
        ssm.get_parameter(Name=f"/credit-risk/{name}", WithDecryption=True)["Parameter"]["Value"]
        for name in ("server-token", "agent-token", "database-password")
    ]
    assert all(len(secret) >= 40 for secret in secrets)
    state = (applied.workspace.folder / "terraform.tfstate").read_text()
    data = applied.client("ec2").describe_instance_attribute(
        InstanceId=applied.outputs["server_instance_id"], Attribute="userData"
    )["UserData"]["Value"]  # fmt: skip
    for place in (state, base64.b64decode(data).decode(), json.dumps(applied.outputs)):
        assert not [secret for secret in secrets if secret in place]


def test_the_database_is_private_and_encrypted(applied: Applied) -> None:
    (database,) = applied.client("rds").describe_db_instances()["DBInstances"]
    assert database["PubliclyAccessible"] is False
    assert database["StorageEncrypted"] is True
    assert database["BackupRetentionPeriod"] == 7
