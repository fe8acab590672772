"""The charts as deployed to AWS: values-k3s.yaml, followed by Terraform's output helm_values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from aws.conftest import Applied
from aws.iam import may_assume
from aws.terraform import ACCOUNT, REGION
from charts.rendering import POD_OWNERS, Document, pod_spec, render_chart
from conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.terraform]
DIGEST = "sha256:" + "d" * 64
IMAGES = ("api", "training", "mlflow", "operator")
# The volume types that Pod Security's level `restricted`, which the namespace enforces, allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
DEPLOYER = list(yaml.safe_load_all((REPOSITORY / "manifests/k3s-deployer.yaml").read_text()))


def rendered(folder: Path, helm_values: str, registry: str) -> list[Document]:
    """Render the stack for the k3s version of variables.tf, with images by digest as deploy.py does."""
    (folder / "aws.yaml").write_text(helm_values)
    images = [
        f"--set-string={name}.image.{key}={value}"
        for name in (*IMAGES, "backup")
        for key, value in {
            "repository": f"{registry}/{'mlflow' if name == 'backup' else name}",
            "digest": DIGEST,
        }.items()
    ]
    return render_chart(
        "credit-risk", "--namespace", namespace(), "--values", "credit-risk/values-k3s.yaml",
        "--values", str(folder / "aws.yaml"), "--kube-version", kubernetes(), *images,
    )  # fmt: skip


def namespace() -> str:
    return next(str(document["metadata"]["name"]) for document in DEPLOYER if document["kind"] == "Namespace")


def kubernetes() -> str:
    text = (REPOSITORY / "infra/aws/variables.tf").read_text()
    (version,) = re.findall(r'default += "v(1\.\d+)\.\d+\+k3s\d+"', text)
    return str(version)


@pytest.fixture(scope="module")
def with_rds(applied: Applied, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """The stack with the RDS database that was applied."""
    outputs = applied.outputs
    return rendered(tmp_path_factory.mktemp("values"), outputs["helm_values"], outputs["registry"])


@pytest.fixture(scope="module")
def without_rds(applied: Applied, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """The stack with Postgres in the cluster, from the outputs of a plan."""
    folder = tmp_path_factory.mktemp("values")
    applied.workspace.run("plan", "-input=false", "-var=database=null", f"-out={folder}/plan")
    plan = json.loads(applied.workspace.run("show", "-json", f"{folder}/plan"))
    values = plan["output_changes"]["helm_values"]["after"]
    return rendered(folder, values, applied.outputs["registry"])


@pytest.fixture(scope="module", params=["with_rds", "without_rds"])
def stack(request: pytest.FixtureRequest) -> list[Document]:
    """The stack with and without RDS."""
    return list(request.getfixturevalue(request.param))


def of_kind(stack: list[Document], kind: str) -> list[Document]:
    return [document for document in stack if document["kind"] == kind]


def pods(stack: list[Document]) -> dict[str, dict[str, Any]]:
    return {d["metadata"]["name"].partition("-")[0]: pod_spec(d) for d in stack if d["kind"] in POD_OWNERS - {"Pod"}}


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def test_the_stack_is_valid_for_the_kubernetes_version_of_that_k3s(stack: list[Document]) -> None:
    assert stack
    invalid = {}
    for document in stack:
        try:
            kubernetes_validate.validate(document, kubernetes(), strict=True)
        except kubernetes_validate.ValidationError as error:
            invalid[f"{document['kind']}/{document['metadata']['name']}"] = error.message
    assert invalid == {}


def test_all_of_our_images_come_from_ecr_by_digest(stack: list[Document]) -> None:
    ours = {name: f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/credit-risk/{name}@{DIGEST}" for name in IMAGES}
    found = {container["image"] for spec in pods(stack).values() for container in containers(spec)}
    assert {image for image in found if "postgres:" not in image} == set(ours.values())
    assert not [spec for spec in pods(stack).values() if spec.get("imagePullSecrets")]


def test_pods_access_s3_through_roles_that_only_they_can_assume(applied: Applied, stack: list[Document]) -> None:
    host = applied.outputs["github_variables"]["K3S_CA_URL"].removeprefix("https://").partition("/")[0]
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"
    for name, spec in pods(stack).items():
        environment = [variable for container in containers(spec) for variable in container.get("env", [])]
        assert not [variable for variable in environment if "ACCESS_KEY" in variable["name"]], name
        roles = {variable["value"] for variable in environment if variable["name"] == "AWS_ROLE_ARN"}
        assert len(roles) == (name in {"mlflow", "training", "backup", "restore"}), name
        for role in roles:
            (token,) = [
                source["serviceAccountToken"]
                for volume in spec["volumes"]
                for source in volume.get("projected", {}).get("sources", [])
                if "serviceAccountToken" in source
            ]
            trust = applied.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]
            account = f"system:serviceaccount:{namespace()}:{spec['serviceAccountName']}"
            claims = {f"{host}:sub": account, f"{host}:aud": token["audience"]}
            assert may_assume(trust["AssumeRolePolicyDocument"], provider, claims), name


def test_models_and_data_are_in_the_bucket_that_the_roles_can_read(applied: Applied, stack: list[Document]) -> None:
    bucket = applied.outputs["artifact_bucket"]
    assert f"s3://{bucket}/data/loans.csv" in json.dumps(pods(stack)["training"])
    assert f"s3://{bucket}" in json.dumps(pods(stack)["mlflow"])
    assert "http://s3:9000" not in json.dumps(stack)


def test_clients_connect_through_traefik_with_tls(applied: Applied, stack: list[Document]) -> None:
    (ingress,) = of_kind(stack, "Ingress")
    host = applied.outputs["url"].removeprefix("https://")
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert ingress["spec"]["tls"] == [{"hosts": [host]}]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [host]
    assert ingress["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.entrypoints"] == "websecure"
    traefik = yaml.safe_load((REPOSITORY / "manifests/k3s-traefik.yaml").read_text())
    (policy,) = [entry for entry in of_kind(stack, "NetworkPolicy") if entry["metadata"]["name"] == "scoring"]
    assert f"kubernetes.io/metadata.name': '{traefik['metadata']['namespace']}'" in str(policy["spec"]["ingress"])


def test_scoring_survives_the_loss_of_a_node_or_a_zone(stack: list[Document]) -> None:
    (scaler,) = of_kind(stack, "HorizontalPodAutoscaler")
    assert scaler["apiVersion"] == "autoscaling/v2"
    assert scaler["spec"]["scaleTargetRef"]["name"] == "scoring"
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 10)
    (budget,) = of_kind(stack, "PodDisruptionBudget")
    assert budget["apiVersion"] == "policy/v1"
    spreads = pods(stack)["scoring"]["topologySpreadConstraints"]
    assert {(spread["topologyKey"], spread["maxSkew"]) for spread in spreads} == {
        ("kubernetes.io/hostname", 1),
        ("topology.kubernetes.io/zone", 1),
    }
    (scoring,) = [entry for entry in of_kind(stack, "Deployment") if entry["metadata"]["name"] == "scoring"]
    labels = scoring["spec"]["template"]["metadata"]["labels"]
    for selector in (*(spread["labelSelector"] for spread in spreads), budget["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    # The autoscaler sets this: a number here would remove its pods at each upgrade.
    assert "replicas" not in scoring["spec"]


def test_persistent_volumes_are_on_the_servers_data_disk(stack: list[Document]) -> None:
    storage = yaml.safe_load((REPOSITORY / "manifests/k3s-storage.yaml").read_text())
    claims = [entry["spec"] for entry in of_kind(stack, "PersistentVolumeClaim")] + [
        claim["spec"] for entry in of_kind(stack, "StatefulSet") for claim in entry["spec"]["volumeClaimTemplates"]
    ]
    assert {claim["storageClassName"] for claim in claims} == {storage["metadata"]["name"]}
    (labels,) = storage["allowedTopologies"][0]["matchLabelExpressions"]
    server = (REPOSITORY / "infra/aws/modules/cluster/files/server.sh").read_text()
    assert f"node-label: [{labels['key']}={labels['values'][0]}, " in server


def test_every_pod_is_admitted_by_the_namespaces_pod_security_level(stack: list[Document]) -> None:
    for name, spec in pods(stack).items():
        assert {key for volume in spec.get("volumes", []) for key in volume if key != "name"} <= VOLUMES, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(spec):
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name


def test_mlflow_uses_the_rds_database_with_the_secret_that_the_server_writes(
    applied: Applied, with_rds: list[Document]
) -> None:
    (database,) = applied.client("rds").describe_db_instances()["DBInstances"]
    assert database["Endpoint"]["Address"] in json.dumps(pods(with_rds)["mlflow"])
    assert not of_kind(with_rds, "StatefulSet")
    server = (REPOSITORY / "infra/aws/modules/cluster/files/server.sh").read_text()
    (secret,) = re.findall(r"metadata: \{name: ([\w-]+), namespace: \$NAMESPACE\}", server)
    assert f"'name': '{secret}'" in str(pods(with_rds)["mlflow"])
    assert secret not in {entry["metadata"]["name"] for entry in of_kind(with_rds, "Secret")}


def test_without_rds_postgres_runs_in_the_cluster(without_rds: list[Document]) -> None:
    assert [entry["metadata"]["name"] for entry in of_kind(without_rds, "StatefulSet")] == ["postgres"]


def test_backups_go_where_their_role_may_write_them(applied: Applied, stack: list[Document]) -> None:
    policies = applied.client("iam").list_attached_role_policies(RoleName="credit-risk-backup")["AttachedPolicies"]
    (arn,) = [policy["PolicyArn"] for policy in policies if policy["PolicyName"].endswith("-registry-backups")]
    document = applied.client("iam").get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    writable = {
        statement["Resource"] for statement in document["Statement"] if "s3:DeleteObject" in statement["Action"]
    }
    for name in ("backup", "restore"):
        for container in containers(pods(stack)[name]):
            variables = {variable["name"]: variable.get("value") for variable in container["env"]}
            if "BACKUP_BUCKET" in variables:
                where = f"arn:aws:s3:::{variables['BACKUP_BUCKET']}/{variables['BACKUP_PREFIX']}/*"
                assert writable == {where}
                assert variables["BACKUP_ARTIFACT_BUCKET"] == applied.outputs["artifact_bucket"]


def test_the_rds_database_is_dumped_with_its_own_major_version(applied: Applied, with_rds: list[Document]) -> None:
    (database,) = applied.client("rds").describe_db_instances()["DBInstances"]
    images = [c["image"] for name in ("backup", "restore") for c in containers(pods(with_rds)[name])]
    tags = {image.rpartition(":")[2] for image in images if "postgres:" in image}
    assert tags == {database["EngineVersion"].partition(".")[0]}
