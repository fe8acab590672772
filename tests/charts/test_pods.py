"""The settings that every chart takes for its pods reach all of them."""

from __future__ import annotations

import re

import pytest

from charts.rendering import (
    NAMES,
    POD_OWNERS,
    Document,
    containers,
    environment,
    pod_template,
    pod_templates,
    render,
    run_helm,
    values_of,
)

PARTS = [name for name in NAMES if name != "credit-risk"]
# A schedule makes the training Job a CronJob.
CASES = [(part, ()) for part in PARTS] + [("training", ("--set=schedule=0 3 * * *",))]
SAME_AS_VALUE = ("nodeSelector", "tolerations", "affinity", "priorityClassName")
SETTINGS = {*SAME_AS_VALUE, "topologySpreadConstraints", "imagePullSecrets", "podLabels", "podAnnotations", "extraEnv"}

every_pod = pytest.mark.parametrize(("part", "options"), CASES)


def scenario(part: str) -> str:
    return f"{part}/ci/pod-settings-values.yaml"


def configured(part: str, *options: str) -> tuple[Document, dict[str, Document]]:
    """Return the values with every pod setting, and the pod templates that they render."""
    templates = pod_templates(render(scenario(part), *options))
    assert templates
    return values_of(scenario(part)), templates


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_a_scenario_with_all_pod_settings_and_documents_their_defaults(part: str) -> None:
    assert set(values_of(scenario(part))) >= SETTINGS
    defaults = values_of(f"{part}/values.yaml")
    assert not any(defaults[setting] for setting in SETTINGS)
    assert defaults["global"]["imagePullSecrets"] == []


def test_the_cases_cover_every_kind_of_pod() -> None:
    kinds = {name.partition("/")[0] for part, options in CASES for name in configured(part, *options)[1]}
    assert kinds == POD_OWNERS


@every_pod
def test_scheduling_settings_reach_every_pod(part: str, options: tuple[str, ...]) -> None:
    values, templates = configured(part, *options)
    for name, template in templates.items():
        for setting in SAME_AS_VALUE:
            assert template["spec"][setting] == values[setting], (name, setting)


@every_pod
def test_own_and_global_image_pull_secrets_reach_every_pod_without_duplicates(
    part: str, options: tuple[str, ...]
) -> None:
    for name, template in configured(part, *options)[1].items():
        assert template["spec"]["imagePullSecrets"] == [{"name": "our-registry"}, {"name": "shared-registry"}], name


@every_pod
def test_spread_constraints_apply_to_the_own_pods_unless_they_have_a_selector(
    part: str, options: tuple[str, ...]
) -> None:
    values, templates = configured(part, *options)
    for name, template in templates.items():
        if name.startswith("Pod/"):
            assert "topologySpreadConstraints" not in template["spec"], "a single test pod has nothing to spread"
            continue
        first, second = template["spec"]["topologySpreadConstraints"]
        assert second == values["topologySpreadConstraints"][1], name
        selected = first.pop("labelSelector")["matchLabels"]
        assert first == values["topologySpreadConstraints"][0], name
        assert selected.items() <= template["metadata"]["labels"].items(), name
        assert selected["app.kubernetes.io/name"] == part


@every_pod
def test_extra_labels_and_annotations_reach_every_pod_but_no_selector(part: str, options: tuple[str, ...]) -> None:
    values, templates = configured(part, *options)
    for name, template in templates.items():
        metadata = template["metadata"]
        assert values["podLabels"].items() <= metadata["labels"].items(), name
        assert values["podAnnotations"].items() <= metadata["annotations"].items(), name
    selectors = {
        document["metadata"]["name"]: document["spec"]["selector"]
        for document in render(scenario(part), *options)
        if "selector" in document.get("spec", {})
    }
    assert selectors == {
        document["metadata"]["name"]: document["spec"]["selector"]
        for document in render(f"{part}/ci/default-values.yaml", *options)
        if "selector" in document.get("spec", {})
    }


@every_pod
def test_extra_variables_reach_every_container_and_replace_the_charts(part: str, options: tuple[str, ...]) -> None:
    values, templates = configured(part, *options)
    extra = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in values["extraEnv"]}
    replaced = values["extraEnv"][-1]["name"]
    default = {
        name: [environment(container) for container in containers(template)]
        for name, template in pod_templates(render(f"{part}/ci/default-values.yaml", *options)).items()
    }
    assert any(replaced in variables for found in default.values() for variables in found), "replaces nothing"
    # A Job's name depends on its content.
    for template, before in zip(templates.values(), default.values(), strict=True):
        for container, original in zip(containers(template), before, strict=True):
            found = environment(container)
            assert extra.items() <= found.items()
            assert set(original) <= set(found)


def test_without_settings_the_api_spreads_over_nodes_and_zones() -> None:
    (spec,) = [
        pod_template(document)["spec"]
        for document in render("api/ci/default-values.yaml")
        if document["kind"] == "Deployment"
    ]
    constraints = spec["topologySpreadConstraints"]
    assert [constraint["topologyKey"] for constraint in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    for constraint in constraints:
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["labelSelector"]["matchLabels"]["creditrisk.io/track"] == "stable"


def test_global_image_pull_secrets_reach_every_pod_of_the_stack() -> None:
    for name, template in pod_templates(render("credit-risk/ci/globals-values.yaml")).items():
        assert template["spec"]["imagePullSecrets"] == [{"name": "shared-registry"}], name


@pytest.mark.parametrize("part", PARTS)
def test_every_part_rejects_misspelled_and_mistyped_pod_settings(part: str) -> None:
    # The words differ between Helm's major versions; both name the path or the unknown key.
    invalid = {
        '--set-json=extraEnv[0]={"name": "A", "value": 1}': r"extraEnv.0.value\b",
        '--set-json=extraEnv[1]={"name": "B", "values": "1"}': r"extraEnv.1.*\bvalues\b",
        '--set-json=tolerations=[{"operater": "Exists"}]': r"tolerations.0.*\boperater\b",
        "--set-json=nodeSelector.pool=1": r"nodeSelector.pool",
        "--set-json=affinity.nodeAfinity={}": r"affinity.*\bnodeAfinity\b",
        '--set-json=topologySpreadConstraints=[{"maxSkew": 1}]': r"topologySpreadConstraints.0.*\btopologyKey\b",
        "--set-json=priorityClassName=5": r"priorityClassName",
        '--set-json=imagePullSecrets=["ours"]': r"(?<!global.)imagePullSecrets.0",
        '--set-json=global.imagePullSecrets=["ours"]': r"global.imagePullSecrets.0",
        "--set-json=global.caBundle.configmap=5": r"global.caBundle.*\bconfigmap\b",
        "--set-json=podLabels.team=1": r"podLabels.team",
        "--set-json=podAnnotations.team=1": r"podAnnotations.team",
    }
    result = run_helm("template", "release", part, *invalid)
    assert result.returncode != 0
    missing = [reason for reason in invalid.values() if not re.search(reason, result.stderr, re.DOTALL)]
    assert not missing, result.stderr


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--set-string=podLabels.app\\.kubernetes\\.io/name=x", "podLabels: app.kubernetes.io/name is reserved"),
        ("--set-string=podLabels.creditrisk\\.io/client=true", "podLabels: creditrisk.io/client is reserved"),
        (
            "--set-string=podAnnotations.creditrisk\\.io/model-version=3",
            "podAnnotations: creditrisk.io/model-version is",
        ),
        ('--set-json=extraEnv=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]', "extraEnv: A appears twice"),
        (
            '--set-json=extraEnv=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {}}}]',
            "both value and valueFrom",
        ),
        ('--set-json=extraEnv=[{"name": "SCORER_MODEL_VERSION", "value": "1"}]', "SCORER_MODEL_VERSION is reserved"),
        ('--set-json=extraEnv=[{"name": "SCORER_POD_NAME", "value": "1"}]', "SCORER_POD_NAME is reserved"),
    ],
)
def test_pod_settings_that_would_break_the_chart_are_rejected_with_a_reason(option: str, reason: str) -> None:
    result = run_helm("template", "release", "api", option)
    assert result.returncode != 0
    assert reason in result.stderr


@every_pod
def test_quantities_that_are_numbers_reach_the_api_server_as_text(part: str, options: tuple[str, ...]) -> None:
    _, templates = configured(part, *options, "--set=resources.requests.cpu=1")
    found = [
        container["resources"]["requests"]["cpu"]
        for template in templates.values()
        for container in containers(template)
    ]
    assert "1" in found
    assert all(isinstance(quantity, str) for quantity in found)


@every_pod
def test_a_cpu_limit_reaches_every_container_for_namespaces_with_a_quota_on_it(
    part: str, options: tuple[str, ...]
) -> None:
    for name, template in configured(part, "--set=resources.limits.cpu=750m", *options)[1].items():
        for container in containers(template):
            assert container["resources"]["limits"]["cpu"] == "750m", name
