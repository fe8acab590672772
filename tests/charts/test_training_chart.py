"""The training chart: one Job per content, searches, and arguments that the trainer accepts."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import pytest
from jsonschema import Draft202012Validator

from charts.rendering import CHARTS, environment, of_kind, pod_spec, render, render_chart, run_helm
from localcluster.training import TEMPLATE
from promoter.adapters.trainings import REASON_ANNOTATION
from promoter.api.spec import Retraining
from trainer.data.decisions import parameters
from trainer.data.reject_inference import RejectInference
from trainer.data.time_split import Split
from trainer.evaluation.gates import GateLimits
from trainer.evaluation.threshold import parse_threshold
from trainer.learning.hyperparameters import Hyperparameters, Precision
from trainer.settings import parse


def test_old_clusters_get_a_beta_cronjob_without_a_pod_failure_policy() -> None:
    (job,) = of_kind(render("training/ci/scheduled-values.yaml", "--kube-version", "1.20"), "CronJob")
    assert job["apiVersion"] == "batch/v1beta1"
    assert "podFailurePolicy" not in job["spec"]["jobTemplate"]["spec"]


@pytest.mark.parametrize("scenario", ["default", "processes", "search"])
@pytest.mark.parametrize(("version", "known"), [("1.25", False), ("1.26", True), ("1.33", True)])
def test_only_exit_codes_end_a_job_at_once_and_disruptions_use_up_no_retry(
    scenario: str, version: str, *, known: bool
) -> None:
    (job,) = of_kind(render(f"training/ci/{scenario}-values.yaml", "--kube-version", version), "Job")
    (container,) = pod_spec(job)["containers"]
    # The first rule that matches counts: a pod that failed by its exit code while its node was drained fails the Job.
    rules = [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2, 3]},
        },
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    assert job["spec"].get("podFailurePolicy") == ({"rules": rules} if known else None)
    # A Job has such a policy only with this one.
    assert pod_spec(job)["restartPolicy"] == "Never"


def test_the_name_of_the_job_changes_with_its_content_and_only_then() -> None:
    def job(*options: str) -> str:
        documents = render("training/ci/default-values.yaml", *options)
        return str(of_kind(documents, "Job")[0]["metadata"]["name"])

    assert job() == job("--set=networkPolicy.enabled=false")
    assert len({job(), job("--set-string=run=2"), job("--set=data=s3://data/x.csv"), job("--set=args={--seed=3}")}) == 4


def test_the_trainer_knows_the_size_of_its_scratch_volume() -> None:
    (job,) = of_kind(render("training/ci/default-values.yaml", "--set=scratch.size=40Gi"), "Job")
    pod = pod_spec(job)
    (scratch,) = (volume for volume in pod["volumes"] if volume["name"] == "scratch")
    assert scratch["emptyDir"] == {"sizeLimit": "40Gi"}
    variables = environment(pod["containers"][0])
    settings = parse(["--data=loans.parquet"], {name: str(value) for name, value in variables.items()})
    (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "scratch")
    assert (str(settings.scratch_dir), settings.scratch_size) == (mount["mountPath"], "40Gi")


def test_an_upgrade_replaces_the_job_and_never_modifies_it() -> None:
    """A Job's spec is immutable: whatever changes it has to change the name as well."""
    specs: dict[str, str] = {}
    for options in (
        [],
        ["--set-string=image.tag=9"],
        ["--set=backoffLimit=1"],
        ["--set=excludeProtected=true"],
        ["--set=hyperparameters.epochs=3"],
        ["--set=search.trials=2"],
        ["--kube-version=1.20"],
    ):
        documents = render("training/ci/default-values.yaml", *options)
        (job,) = of_kind(documents, "Job")
        assert specs.setdefault(job["metadata"]["name"], json.dumps(job["spec"])) == json.dumps(job["spec"])
    assert len(specs) == 7


@pytest.mark.parametrize(("version", "indexed"), [("1.20", False), ("1.22", True), ("1.33", True)])
def test_a_search_is_an_indexed_job_on_clusters_that_have_them(version: str, indexed: bool) -> None:
    documents = render("training/ci/search-values.yaml", "--kube-version", version)
    (spec,) = [job["spec"] for job in of_kind(documents, "Job")]
    assert (spec.get("completionMode"), spec.get("completions"), spec.get("parallelism")) == (
        ("Indexed", 4, 4) if indexed else (None, None, None)
    )
    pod = spec["template"]["spec"]
    assert ("persistentVolumeClaim" in str(pod["volumes"])) is not indexed
    (container,) = pod["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    study = environment["TRAINER_STUDY_STORAGE"]["value"]
    assert study.startswith("postgresql+psycopg2://postgres:5432/?")
    assert "target_session_attrs=read-write" in study
    assert ("--workers=4" in container["args"]) is indexed
    assert environment["PGPASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "postgres-credentials"
    assert {"--exclude-protected", "--learning-rate=0.002", "--allow-contract-change", "--trials=40"} <= set(
        container["args"]
    )


@pytest.mark.parametrize("version", ["1.22", "1.33"])
def test_pods_that_train_together_are_an_indexed_job_that_meets_at_its_first_pod(version: str) -> None:
    documents = render("training/ci/processes-values.yaml", "--kube-version", version)
    (job,) = of_kind(documents, "Job")
    assert [job["spec"][name] for name in ("completionMode", "completions", "parallelism")] == ["Indexed", 3, 3]
    (service,) = of_kind(documents, "Service")
    (policy,) = of_kind(documents, "NetworkPolicy")
    pod = pod_spec(job)
    (container,) = pod["containers"]
    # As the controller names pods, and Kubernetes expands variables.
    variables = environment(container)
    rendezvous = variables["TRAINER_RENDEZVOUS"].replace("$(TRAINER_JOB)", job["metadata"]["name"])
    assert [entry["name"] for entry in container["env"]].index("TRAINER_JOB") < [
        entry["name"] for entry in container["env"]
    ].index("TRAINER_RENDEZVOUS")
    settings = parse(container["args"], {**variables, "TRAINER_RENDEZVOUS": rendezvous, "JOB_COMPLETION_INDEX": "2"})
    assert (settings.processes, settings.pods, settings.worker) == (2, 3, 2)
    assert settings.hyperparameters.precision is Precision.BFLOAT16
    (port,) = service["spec"]["ports"]
    assert rendezvous == f"{job['metadata']['name']}-0.{pod['subdomain']}:{port['port']}"
    assert pod["subdomain"] == service["metadata"]["name"] == "training-peers"
    assert service["spec"]["clusterIP"] == "None"
    # Pods wait for each other before any is ready.
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert [(entry["name"], entry["containerPort"]) for entry in container["ports"]] == [("peers", port["port"])]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (rule,) = policy["spec"]["ingress"]
    assert rule == {"from": [{"podSelector": policy["spec"]["podSelector"]}]}
    assert "persistentVolumeClaim" not in str(pod["volumes"])


def test_old_clusters_train_with_all_processes_in_one_pod() -> None:
    documents = render("training/ci/processes-values.yaml", "--kube-version", "1.20")
    (job,) = of_kind(documents, "Job")
    settings = parse(pod_spec(job)["containers"][0]["args"], {})
    assert (settings.processes, settings.pods) == (6, 1)
    assert "completionMode" not in job["spec"]
    assert "persistentVolumeClaim" in str(pod_spec(job)["volumes"])
    assert not of_kind(documents, "Service")
    (policy,) = of_kind(documents, "NetworkPolicy")
    assert policy["spec"]["ingress"] == []


def test_processes_of_one_pod_need_no_service_and_no_open_port() -> None:
    documents = render("training/ci/default-values.yaml", "--set=processes=2")
    (job,) = of_kind(documents, "Job")
    (container,) = pod_spec(job)["containers"]
    assert parse(container["args"], {}).processes == 2
    assert "ports" not in container
    assert not of_kind(documents, "Service")


@pytest.mark.parametrize("value", ["pods=2", "processes=2"])
def test_a_search_is_refused_beside_a_training_by_several_processes(value: str) -> None:
    result = run_helm("template", "training", "training", "--set=search.trials=4", f"--set={value}")
    assert result.returncode != 0
    assert "pods and processes are for a training without a search" in result.stderr


def test_values_of_a_release_without_processes_change_nothing() -> None:
    plain, old = (
        of_kind(render("training/ci/default-values.yaml", *options), "Job")
        for options in ((), ("--set-json=pods=null,processes=null",))
    )
    assert plain == old


def test_the_trainer_accepts_every_argument_that_the_chart_passes() -> None:
    documents = render("training/ci/search-values.yaml")
    (spec,) = [job["spec"] for job in of_kind(documents, "Job")]
    settings = parse(spec["template"]["spec"]["containers"][0]["args"], {})
    assert settings.exclude_protected
    assert settings.hyperparameters.hidden == (64, 64)
    assert settings.hyperparameters.class_weight == "balanced"
    assert settings.limits.minimum_auc == 0.8
    assert settings.threshold.text == "loss-given-default=0.45,margin=0.05"
    assert (settings.split, settings.default_rate, settings.pd_floor) == (Split.TIME, 0.04, 0.0005)
    schema = json.loads((CHARTS / "training/values.schema.json").read_text())["properties"]
    for values, known in (("hyperparameters", Hyperparameters), ("gates", GateLimits)):
        flags = {re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name) for name in schema[values]["properties"]}
        assert flags == {field.name for field in fields(known)}


@pytest.mark.parametrize(
    ("threshold", "allowed"),
    [
        ("ks-maximum", True),
        ("approval-rate=0.8", True),
        ("approval-rate=.8", True),
        ("loss-given-default=1,margin=0.05", True),
        ("0.2", True),
        (0.2, True),
        ("ks", False),
        ("approval-rate=80", False),
        ("approval-rate=1", False),
        ("loss-given-default=0.45", False),
        ("loss-given-default=0.45,margin=5", False),
        (0, False),
        (1, False),
        (20, False),
    ],
)
def test_the_charts_schema_allows_thresholds_that_the_trainer_takes(threshold: str | float, allowed: bool) -> None:
    schema = json.loads((CHARTS / "training/values.schema.json").read_text())["properties"]["threshold"]
    assert Draft202012Validator(schema).is_valid(threshold) == allowed
    if allowed:
        documents = render("training/ci/default-values.yaml", f"--set-json=threshold={json.dumps(threshold)}")
        (job,) = of_kind(documents, "Job")
        arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
        assert parse(arguments, {}).threshold == parse_threshold(str(threshold))


def test_values_of_a_release_without_a_threshold_keep_the_trainers_default() -> None:
    (job,) = of_kind(render("training/ci/default-values.yaml", "--set-json=threshold=null"), "Job")
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert not [argument for argument in arguments if argument.startswith("--threshold")]


@pytest.mark.parametrize(
    "value",
    [
        "split=newest",
        "calibration.defaultRate=4",
        "calibration.defaultRate=0",
        "calibration.pdFloor=0.5",
        "calibration.floor=0.1",
        "hyperparameters.classWeight=0",
        "hyperparameters.classWeight=even",
    ],
)
def test_values_that_the_trainer_would_refuse_are_refused_at_install(value: str) -> None:
    result = run_helm("template", "training", "training", f"--set={value}")
    assert result.returncode != 0
    assert value.partition("=")[0].rpartition(".")[2] in result.stderr


def test_make_train_renders_the_job_of_the_umbrella_chart_and_what_it_needs() -> None:
    documents = render_chart("credit-risk", "--set-string=training.features=declaration", "--show-only", TEMPLATE)
    kinds = sorted(document["kind"] for document in documents)
    assert kinds == ["ConfigMap", "Job", "NetworkPolicy", "PersistentVolumeClaim"]


def test_data_from_decisions_come_with_the_service_and_a_key_and_nothing_else_does() -> None:
    (job,) = of_kind(render("training/ci/decisions-values.yaml"), "Job")
    (container,) = pod_spec(job)["containers"]
    variables = environment(container)
    settings = parse(container["args"], variables)
    assert settings.data == "decisions://?from=2025-01-01&to=2026-01-01&matured=12m"
    assert parameters(settings.data) == {"from": "2025-01-01", "to": "2026-01-01", "matured": "12m"}
    assert (settings.decisions_url, settings.reject_inference) == ("http://decisions:8080", RejectInference.FUZZY)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(settings.decisions_key_file) == f"{mounts['decisions']}/key"
    (volume,) = (volume for volume in pod_spec(job)["volumes"] if volume["name"] == "decisions")
    assert volume["secret"] == {"secretName": "decisions-training-key"}

    (keyless,) = of_kind(render("training/ci/decisions-values.yaml", "--set=decisions.secret="), "Job")
    assert "TRAINER_DECISIONS_KEY_FILE" not in environment(pod_spec(keyless)["containers"][0])
    # As releases before 0.2 had it.
    (other,) = of_kind(render("training/ci/default-values.yaml", "--set=decisions=null,rejectInference=null"), "Job")
    assert "decisions" not in json.dumps(pod_spec(other))
    (plain,) = of_kind(render("training/ci/default-values.yaml", "--set=data=decisions"), "Job")
    assert parse(pod_spec(plain)["containers"][0]["args"], {}).data == "decisions"


def test_the_choices_of_reject_inference_are_the_trainer_s() -> None:
    schema = json.loads((CHARTS / "training/values.schema.json").read_text("utf-8"))
    assert schema["properties"]["rejectInference"]["enum"] == [*RejectInference]


@pytest.mark.parametrize(("version", "api"), [("1.20", "batch/v1beta1"), ("1.34", "batch/v1")])
def test_retraining_is_a_template_that_never_runs_by_itself_with_data_and_a_reason_of_its_own(
    version: str, api: str
) -> None:
    documents = render("training/ci/retraining-values.yaml", "--kube-version", version)
    (template,) = of_kind(documents, "CronJob")
    assert (template["apiVersion"], template["metadata"]["name"]) == (api, "retraining")
    assert template["spec"]["suspend"] is True
    (container,) = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert "--data=decisions://?matured=6m" in container["args"]
    variables = {variable["name"]: variable for variable in container["env"]}
    assert variables["TRAINER_DECISIONS_KEY_FILE"]["value"] == "/etc/creditrisk/decisions/key"
    path = variables["TRAINER_REASON"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == f"metadata.annotations['{REASON_ANNOTATION}']"


def test_the_job_of_an_install_is_the_same_with_and_without_retraining() -> None:
    (job,) = of_kind(render("training/ci/retraining-values.yaml"), "Job")
    (plain,) = of_kind(render("training/ci/default-values.yaml"), "Job")
    assert job == plain
    assert not of_kind(render("training/ci/default-values.yaml"), "CronJob")


def test_the_operator_finds_the_template_by_its_default_name() -> None:
    (template,) = of_kind(render("training/ci/retraining-values.yaml"), "CronJob")
    assert template["metadata"]["name"] == Retraining.model_fields["cron_job"].default
