"""The decision log in the charts: who gets which password, what ships decisions, and how long a pod may take to end."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from charts.rendering import (
    Document,
    containers,
    environment,
    of_kind,
    pod_spec,
    pod_template,
    pod_templates,
    render,
    render_chart,
    run_helm,
)
from decisions.drift.options import parse
from promoter.adapters.canary_manifests import canary_deployment, canary_service, scoring_container
from promoter.api.resource import Owner
from promoter.decision.actions import ApplyCanary

FOLDER = "/etc/creditrisk/database"


def deployment(scenario: str, *options: str) -> Document:
    (found,) = of_kind(render(scenario, *options), "Deployment")
    return found


def scoring(*options: str) -> Document:
    return deployment("api/ci/decision-log-local-values.yaml", *options)


def named(document: Document) -> dict[str, Document]:
    """Return the containers of a pod template's owner by name."""
    return {container["name"]: container for container in containers(pod_template(document))}


def passwords(document: Document, container: str) -> set[str]:
    """Return the roles whose passwords a container can read."""
    volumes = {volume["name"]: volume for volume in pod_spec(document)["volumes"]}
    return {
        item["path"]
        for mount in named(document)[container].get("volumeMounts", [])
        if mount["mountPath"] == FOLDER
        for item in volumes[mount["name"]]["secret"]["items"]
    }


def every_program() -> dict[str, tuple[Document, str]]:
    """Return the owner and the container's name of each program of the decision log, by its command."""
    documents = render("credit-risk/ci/decisions-values.yaml")
    found = {}
    for document in documents:
        if document["kind"] in {"Deployment", "CronJob"}:
            for name, container in named(document).items():
                if container["image"].startswith("credit-risk/decisions") and "args" in container:
                    found[container["args"][0]] = (document, name)
    return found


def test_each_program_connects_in_a_role_of_its_own_and_can_read_no_other_password() -> None:
    roles = {"ship": "writer", "serve": "service", "archive": "owner", "verify": "reader", "load-outcomes": "service",
             "drift": "service"}  # fmt: skip
    programs = every_program()
    assert set(programs) == {*roles, "migrate"}
    for command, role in roles.items():
        document, name = programs[command]
        variables = environment(named(document)[name])
        assert urlsplit(variables["DECISIONS_DATABASE_URL"]).username == f"decisions_{role}", command
        assert variables["DECISIONS_DATABASE_PASSWORD_FILE"] == f"{FOLDER}/{role}", command
        assert passwords(document, name) == {role}, command
        assert "PGPASSWORD" not in variables, command
    document, name = programs["migrate"]
    assert passwords(document, name) == {"owner", "writer", "reader", "service"}


def test_only_the_service_answers_from_a_database_that_accepts_no_writes() -> None:
    for command, (document, name) in every_program().items():
        url = urlsplit(environment(named(document)[name])["DECISIONS_DATABASE_URL"])
        assert parse_qs(url.query).get("target_session_attrs") == (None if command == "serve" else ["read-write"])


def test_one_password_per_role_is_generated_and_appears_only_in_its_secret() -> None:
    documents = render("decisions/ci/default-values.yaml")
    secrets = {secret["metadata"]["name"]: secret for secret in of_kind(documents, "Secret")}
    database = secrets["decisions-database"]
    assert set(database["data"]) == {"owner", "writer", "reader", "service", "checker"}
    assert len({*database["data"].values()}) == 5
    assert database["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    key = base64.b64decode(secrets["decisions-api-key"]["data"]["key"])
    hashed = base64.b64decode(secrets["decisions-access"]["data"]["default"]).decode()
    assert hashed == hashlib.sha256(key).hexdigest()


def test_existing_secrets_and_roles_are_used_as_they_are() -> None:
    documents = render("decisions/ci/external-values.yaml")
    # Those of the stack's own parts, which no other Secret can hold.
    assert {secret["metadata"]["name"] for secret in of_kind(documents, "Secret")} == {
        "decisions-operator-key", "decisions-training-key", "decisions-parts"}  # fmt: skip
    assert not of_kind(render("decisions/ci/external-values.yaml", "--set=access.parts=false"), "Secret")
    (service,) = of_kind(documents, "Deployment")
    secrets = {v["name"]: v["secret"]["secretName"] for v in pod_spec(service)["volumes"] if "secret" in v}
    assert secrets == {"database": "our-roles", "roles": "our-roles"}
    assert access(service) == ["scoring-access", "decisions-parts"]
    migrate = environment(named(service)["migrate"])
    assert urlsplit(migrate["DECISIONS_DATABASE_URL"]).path == "/lending_decisions"
    assert not {"DECISIONS_ADMIN_URL", "PGUSER", "PGPASSWORD"} & set(migrate)


def test_the_service_gets_an_issuer_with_its_audience_or_none() -> None:
    variables = environment(named(deployment("decisions/ci/external-values.yaml"))["decisions"])
    assert variables["DECISIONS_OIDC_ISSUER"] == "https://id.example.org/realms/bank"
    assert (variables["DECISIONS_OIDC_AUDIENCE"], variables["DECISIONS_OIDC_SCOPE"]) == ("decisions", "decisions")
    # The bundle of CAs that the issuer's certificate is verified with is there once, as for S3.
    (trusting,) = of_kind(
        render("decisions/ci/external-values.yaml", "--set=global.caBundle.configMap=cas"), "Deployment"
    )
    names = [variable["name"] for variable in named(trusting)["decisions"]["env"]]
    assert "SSL_CERT_FILE" in names
    assert len(names) == len(set(names))
    without = environment(named(deployment("decisions/ci/default-values.yaml"))["decisions"])
    assert not [name for name in without if name.startswith("DECISIONS_OIDC")]
    refused = run_helm("template", "release", "decisions", "--set=access.oidc.issuer=https://id.example.org")
    assert "access.oidc.audience is required with access.oidc.issuer" in refused.stderr


def test_only_those_that_write_and_compare_seals_are_told_of_their_bucket() -> None:
    for scenario, expected in (
        ("decisions/ci/default-values.yaml", None),
        ("decisions/ci/external-values.yaml", "example-seals"),
    ):
        for job in of_kind(render(scenario), "CronJob"):
            ((name, program),) = named(job).items()
            told = expected if name in {"archive", "verify"} else None
            assert environment(program).get("DECISIONS_SEAL_BUCKET") == told
    for container in named(deployment("decisions/ci/external-values.yaml")).values():
        assert "DECISIONS_SEAL_BUCKET" not in environment(container)


def access(service: Document) -> list[str]:
    """Return the Secrets with hashes of keys that the service reads, a later one before an earlier one."""
    (volume,) = (volume for volume in pod_spec(service)["volumes"] if volume["name"] == "access")
    return [source["secret"]["name"] for source in volume["projected"]["sources"]]


def test_the_operator_and_training_have_a_key_and_their_permissions() -> None:
    documents = render("decisions/ci/default-values.yaml")
    secrets = {secret["metadata"]["name"]: secret["data"] for secret in of_kind(documents, "Secret")}
    keys = {part: base64.b64decode(secrets[f"decisions-{part}-key"]["key"]) for part in ("operator", "training")}
    assert len({*keys.values(), base64.b64decode(secrets["decisions-api-key"]["key"])}) == 3
    for part, key in keys.items():
        assert base64.b64decode(secrets["decisions-parts"][part]).decode() == hashlib.sha256(key).hexdigest()
    service = deployment("decisions/ci/default-values.yaml")
    assert access(service) == ["decisions-access", "decisions-parts"]
    permissions = json.loads(environment(named(service)["decisions"])["DECISIONS_PERMISSIONS"])
    granted = {part: [p for p, clients in permissions.items() if part in clients] for part in keys}
    assert granted == {"operator": ["decisions:check", "drift:read", "timeline:write"], "training": ["decisions:read"]}
    assert permissions["decisions:read"] == ["default", "training"]
    own = deployment("decisions/ci/default-values.yaml", "--set=access.parts=false")
    assert access(own) == ["decisions-access"]
    assert "operator" not in environment(named(own)["decisions"])["DECISIONS_PERMISSIONS"]


def test_the_operator_and_training_may_connect() -> None:
    policies = {p["metadata"]["name"]: p for p in of_kind(render("credit-risk/ci/decisions-values.yaml"),
                                                          "NetworkPolicy")}  # fmt: skip
    peers = policies["decisions"]["spec"]["ingress"][0]["from"]
    names = {peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") for peer in peers}
    assert names >= {"operator", "training"}


@pytest.mark.parametrize(("option", "secret"), [("", "postgres-credentials"), ("database.adminSecret=root", "root")])
def test_only_the_migration_connects_as_the_administrator(option: str, secret: str) -> None:
    service = deployment("decisions/ci/default-values.yaml", *([f"--set={option}"] if option else []))
    for name, container in named(service).items():
        administrator = environment(container).get("PGPASSWORD")
        expected = {"secretKeyRef": {"name": secret, "key": "password"}} if name == "migrate" else None
        assert administrator == expected, name


def test_tables_exist_before_the_service_starts() -> None:
    spec = pod_spec(deployment("decisions/ci/default-values.yaml"))
    assert [container["name"] for container in spec["initContainers"]] == ["bucket", "migrate"]


def test_the_service_selects_no_pod_of_a_cron_job() -> None:
    documents = render("decisions/ci/default-values.yaml")
    (service,) = of_kind(documents, "Service")
    selected = {
        name
        for name, template in pod_templates(documents).items()
        if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    }
    assert selected == {"Deployment/decisions"}
    (budget,) = of_kind(documents, "PodDisruptionBudget")
    (found,) = of_kind(documents, "Deployment")
    assert budget["spec"]["selector"] == found["spec"]["selector"]
    assert found["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_clients_may_do_what_the_values_say() -> None:
    service = deployment("decisions/ci/external-values.yaml")
    permissions = json.loads(environment(named(service)["decisions"])["DECISIONS_PERMISSIONS"])
    assert permissions["decisions:read"] == ["auditor", "lending-app", "oidc:audit-portal", "training"]
    assert permissions["decisions:forget"] == ["privacy-desk"]
    assert permissions["timeline:write"] == ["operator"]
    assert permissions["decisions:check"] == ["validation", "operator"]


def test_only_where_sql_is_allowed_there_is_a_role_for_it() -> None:
    plain, allowed = deployment("decisions/ci/default-values.yaml"), deployment("decisions/ci/external-values.yaml")
    assert "DECISIONS_CHECKER_PASSWORD_FILE" not in environment(named(plain)["decisions"])
    assert (passwords(plain, "decisions"), "checker" in passwords(plain, "migrate")) == ({"service"}, False)
    file = environment(named(allowed)["decisions"])["DECISIONS_CHECKER_PASSWORD_FILE"]
    assert file == f"{FOLDER}/checker"
    assert passwords(allowed, "decisions") == {"service", "checker"}
    assert "checker" in passwords(allowed, "migrate")
    before = deployment("decisions/ci/default-values.yaml", "--set=checks=null")
    assert passwords(before, "decisions") == {"service"}, "as a release that keeps its values has it"


def test_replays_the_archive_and_drift_reach_mlflow_and_s3_and_nobody_else_of_the_pods_does() -> None:
    reached = {"DECISIONS_MLFLOW_URL", "DECISIONS_S3_BUCKET"}
    found = {command: reached & set(environment(named(document)[name])) for command, (document, name) in
             every_program().items()}  # fmt: skip
    assert found == {
        "serve": reached, "archive": reached, "verify": {"DECISIONS_S3_BUCKET"}, "ship": {"DECISIONS_S3_BUCKET"},
        "load-outcomes": {"DECISIONS_S3_BUCKET"}, "migrate": set(), "drift": reached,
    }  # fmt: skip
    options = ("--set=mlflowUrl=https://mlflow.example.org", "--set=replay.versions=9",
               "--set=replay.memoryMebibytes=300",
               "--set=replay.maxModelMebibytes=32", "--set-json=scorecard.basePoints=700.5")  # fmt: skip
    variables = environment(named(deployment("decisions/ci/default-values.yaml", *options))["decisions"])
    expected = {"MLFLOW_URL": "https://mlflow.example.org", "REPLAY_VERSIONS": "9", "REPLAY_MEMORY_MEBIBYTES": "300",
                "REPLAY_MODEL_MEBIBYTES": "32", "BASE_POINTS": "700.5", "BASE_ODDS": "50", "PDO": "20"}  # fmt: skip
    assert expected.items() <= {name.removeprefix("DECISIONS_"): value for name, value in variables.items()}.items()


def test_replays_compute_points_on_the_scale_of_the_scoring_service() -> None:
    options = ["--set=decisions.enabled=true", "--set=api.scorecard.basePoints=700"]
    refused = run_helm("template", "release", "credit-risk", *options)
    assert refused.returncode != 0
    assert "api.scorecard.basePoints is 700, decisions.scorecard.basePoints is 600" in refused.stderr
    render_chart("credit-risk", *options, "--set=decisions.scorecard.basePoints=700")
    # Without the decision log there is nothing to replay.
    render_chart("credit-risk", options[1])


def test_the_ingress_leads_to_both_services_on_one_host() -> None:
    documents = render("credit-risk/ci/decisions-values.yaml")
    paths = {
        path["path"]: path["backend"]["service"]["name"]
        for ingress in of_kind(documents, "Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    names = ("decisions", "outcomes", "models", "applicants", "training-data")
    assert paths == {"/": "scoring", **{f"/v1/{name}": "decisions" for name in names}}


@pytest.mark.parametrize(
    ("version", "api"), [("1.20", "batch/v1beta1"), ("1.21", "batch/v1"), ("1.25", "batch/v1"), ("1.33", "batch/v1")]
)
def test_the_archive_runs_daily_and_a_verification_when_asked(version: str, api: str) -> None:
    documents = render("decisions/ci/default-values.yaml", "--kube-version", version)
    jobs = {job["metadata"]["name"]: job for job in of_kind(documents, "CronJob")}
    assert {name: job["spec"]["suspend"] for name, job in jobs.items()} == {
        "decisions-archive": False,
        "decisions-drift": False,
        "decisions-verify": True,
        "decisions-load-outcomes": True,
    }
    for job in jobs.values():
        assert job["apiVersion"] == api
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        spec = job["spec"]["jobTemplate"]["spec"]
        assert ("podFailurePolicy" in spec) is (version == "1.33")
        for rule in spec.get("podFailurePolicy", {}).get("rules", []):
            assert rule["onExitCodes"]["containerName"] in named(job)


def test_without_a_schedule_no_cron_job_starts_by_itself() -> None:
    jobs = of_kind(render("decisions/ci/plain-values.yaml"), "CronJob")
    assert [job["spec"]["suspend"] for job in jobs] == [True, True, True, True]


def test_a_drift_report_gets_its_values_as_arguments() -> None:
    def arguments(scenario: str) -> list[str]:
        (job,) = [job for job in of_kind(render(scenario), "CronJob") if job["metadata"]["name"] == "decisions-drift"]
        (container,) = named(job).values()
        assert passwords(job, "drift") == {"service"}
        return list(container["args"])

    common = ["drift", "--publish", "--exit-zero"]
    assert arguments("decisions/ci/default-values.yaml") == [
        *common, "--compare-days", "28", "--confidence", "0.99", "--days", "7", "--matured-months", "12",
        "--memory-mebibytes", "256", "--psi-limit", "0.1", "--share-limit", "0.02",
    ]  # fmt: skip
    external = arguments("decisions/ci/external-values.yaml")
    assert external[-6:] == ["--model", "lending", "--segment", "loan_purpose", "--segment", "client"]
    for used in (arguments("decisions/ci/default-values.yaml"), external):
        assert parse(used[1:]).publish, "the command takes them"


def test_a_file_of_outcomes_is_loaded_on_its_schedule_and_a_schedule_needs_a_file() -> None:
    documents = render("decisions/ci/external-values.yaml")
    (job,) = [job for job in of_kind(documents, "CronJob") if job["metadata"]["name"] == "decisions-load-outcomes"]
    assert (job["spec"]["schedule"], job["spec"]["suspend"]) == ("0 2 * * *", False)
    (container,) = named(job).values()
    assert container["args"] == ["load-outcomes", "s3://example-servicing/outcomes/latest.csv"]
    refused = run_helm("template", "release", "decisions", "--set=outcomes.schedule=@daily")
    assert "outcomes.schedule needs outcomes.source" in refused.stderr


@pytest.mark.parametrize(
    ("scenario", "account", "role"),
    [("decisions/ci/external", "decisions", "decisions"), ("api/ci/decision-log", "api", "scoring")],
)
def test_pods_that_use_s3_assume_a_role_of_their_own_on_aws(scenario: str, account: str, role: str) -> None:
    documents = render(f"{scenario}-values.yaml")
    assert [found["metadata"]["name"] for found in of_kind(documents, "ServiceAccount")] == [account]
    for document in [*of_kind(documents, "Deployment"), *of_kind(documents, "CronJob")]:
        assert pod_spec(document)["serviceAccountName"] == account
        for name, container in named(document).items():
            variables = environment(container)
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert ("AWS_ROLE_ARN" in variables) is ("aws-token" in mounts) is ("DECISIONS_S3_BUCKET" in variables), (
                name
            )
            if "AWS_ROLE_ARN" in variables:
                assert variables["AWS_ROLE_ARN"].endswith(f":role/{role}")


# --- the shipper beside the scoring service


@pytest.mark.parametrize("value", ["--set=decisionLog.mode=off", "--set-json=decisionLog.mode=false"])
def test_the_log_is_off_by_default_and_when_yaml_turns_off_into_false(value: str) -> None:
    default = render("api/ci/default-values.yaml")
    assert list(named(of_kind(default, "Deployment")[0])) == ["scorer"]
    assert "decision" not in json.dumps(default).lower()
    assert named(scoring(value)) == named(of_kind(default, "Deployment")[0])


def test_the_service_and_the_shipper_share_the_folder_of_the_log() -> None:
    document = scoring()
    found = named(document)
    assert list(found) == ["scorer", "shipper"]
    scorer, shipper = (environment(found[name]) for name in found)
    assert scorer["SCORER_DECISION_LOG"] == "log"
    folder = scorer["SCORER_DECISION_LOG_DIR"]
    assert shipper["DECISIONS_LOG_DIR"] == folder
    for container in found.values():
        (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == folder]
        # Each shipper sees the folders of all pods on a shared volume, and takes over those of pods that are gone.
        assert mount == {"name": "decisions", "mountPath": folder}
    assert shipper["DECISIONS_POD_NAME"] == scorer["SCORER_POD_NAME"]
    assert passwords(document, "scorer") == set()


def test_the_volume_holds_more_than_the_service_writes_to_it() -> None:
    document = scoring("--set=decisionLog.maxMebibytes=2000")
    (volume,) = [volume for volume in pod_spec(document)["volumes"] if volume["name"] == "decisions"]
    assert volume["emptyDir"] == {"sizeLimit": "3000Mi"}
    assert environment(named(document)["scorer"])["SCORER_DECISION_LOG_MAX_BYTES"] == str(2000 * 1024 * 1024)


def test_another_volume_replaces_the_default_one() -> None:
    document = deployment("api/ci/decision-log-values.yaml")
    (volume,) = [volume for volume in pod_spec(document)["volumes"] if volume["name"] == "decisions"]
    assert volume == {"name": "decisions", "persistentVolumeClaim": {"claimName": "scoring-decisions"}}


def test_the_pod_stays_ready_while_decisions_cannot_reach_the_database() -> None:
    shipper = named(scoring())["shipper"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert shipper[probe]["httpGet"] == {"path": "/healthz", "port": "shipper"}


def test_the_shippers_time_comes_on_top_of_the_services() -> None:
    without = pod_spec(deployment("api/ci/default-values.yaml"))["terminationGracePeriodSeconds"]
    document = scoring("--set=decisionLog.shutdownSeconds=40")
    assert pod_spec(document)["terminationGracePeriodSeconds"] == without + 40
    # It counts from SIGTERM, which both containers get at once.
    assert environment(named(document)["shipper"])["DECISIONS_SHUTDOWN_SECONDS"] == str(without + 40 - 3)


def test_only_the_shipper_reaches_s3_and_only_to_hand_over() -> None:
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DECISIONS_S3_BUCKET"}
    assert not keys & set(environment(named(scoring())["shipper"]))
    found = named(scoring("--set=decisionLog.handOver=true"))
    assert keys <= set(environment(found["shipper"]))
    assert not keys & set(environment(found["scorer"]))


def test_a_key_for_handing_over_replaces_the_stores_key_and_the_role() -> None:
    document = deployment("api/ci/decision-log-values.yaml", "--set=decisionLog.handOverSecret=ours")
    variables = environment(named(document)["shipper"])
    assert variables["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "ours", "key": "access-key-id"}}
    assert "AWS_ROLE_ARN" not in variables
    assert "serviceAccountName" not in pod_spec(document)
    assert "aws-token" not in json.dumps(document)


def test_the_bundle_verifies_the_database_and_the_store() -> None:
    bundle = "/etc/creditrisk/ca/ca.crt"
    expected = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": bundle, "AWS_CA_BUNDLE": bundle}
    jobs = of_kind(render("decisions/ci/pod-settings-values.yaml"), "CronJob")
    for document in (deployment("api/ci/decision-log-values.yaml"), *jobs):
        container = list(named(document).values())[-1]
        assert expected.items() <= environment(container).items()
        assert {"name": "ca-bundle", "mountPath": "/etc/creditrisk/ca", "readOnly": True} in container["volumeMounts"]


def test_the_variable_that_names_the_pod_cannot_be_replaced() -> None:
    extra = '--set-json=extraEnv=[{"name": "DECISIONS_POD_NAME", "value": "x"}]'
    result = run_helm("template", "release", "api", "--set=decisionLog.mode=log", extra)
    assert result.returncode != 0
    assert "DECISIONS_POD_NAME is reserved" in result.stderr


def test_a_canary_has_the_shipper_too_and_the_operator_finds_the_service_by_its_port() -> None:
    stable = scoring()
    stable["metadata"]["namespace"] = "ns"
    assert scoring_container(stable) == "scorer"
    owner = Owner(namespace="ns", name="credit-risk", uid="1")
    canary = canary_deployment(owner, stable, ApplyCanary(version="8", replicas=1, config_maps=("copy",)))
    found = {container["name"]: container for container in canary["spec"]["template"]["spec"]["containers"]}
    assert found["shipper"] == named(stable)["shipper"]
    assert "model-artifacts" in {mount["name"] for mount in found["scorer"]["volumeMounts"]}
    (port,) = canary_service(owner, stable)["spec"]["ports"]
    assert port["targetPort"] == 8000


def test_no_part_of_it_is_installed_unless_it_is_asked_for() -> None:
    def of_decisions(*options: str) -> set[str]:
        documents = render_chart("credit-risk", *options)
        return {d["kind"] for d in documents if d["metadata"]["labels"]["app.kubernetes.io/name"] == "decisions"}

    assert of_decisions() == set()
    assert {"Deployment", "CronJob", "Service", "Ingress"} <= of_decisions("--set=decisions.enabled=true")
