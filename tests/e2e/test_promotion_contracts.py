"""A challenger that needs fewer fields than the champion is promoted while clients keep sending all of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import mlflow
import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.namespace import ScenarioNamespace
from e2e.parallel import promotion_scenario
from e2e.pods import STABLE, is_ready, management
from e2e.scenario import Scenario
from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
DECLARATION = load_declaration(BUILT_IN_DECLARATION)
PROTECTED = [feature.name for feature in DECLARATION.features if feature.protected]
OTHERS = [name for name in DECLARATION.names if name not in PROTECTED]
# Small and quick to train. It may be worse than the champion, but it must be compatible with it.
TRAINING = ["--exclude-protected", "--hidden=16", "--bins=8", "--heads=5", "--epochs=6", "--learning-rate=0.01",
            "--minimum-auc=0.5", "--maximum-ece=0.2", "--minimum-air=0", "--margin=0.5"]  # fmt: skip


@pytest.mark.soak
@promotion_scenario(
    steps=[{"weight": 50, "duration": "5s"}, {"pause": {}}],
    # Another model scores differently. This scenario is about requests that the canary would refuse.
    analysis={"interval": "2s", "minSamples": 40, "failureLimit": 1, "metrics": [{"type": "ErrorRate", "limit": 0}]},
)
def test_a_challenger_without_the_protected_attributes_is_promoted_and_refuses_no_client(scenario: Scenario) -> None:
    namespace, promotion, champion = scenario.namespace, scenario.promotion, scenario.stable
    assert features_of(namespace) == list(DECLARATION.names)
    assert all(application.keys() == set(DECLARATION.names) for application in namespace.environment.applications)

    namespace.environment.train(f"--model-name={namespace.model}", *TRAINING)
    challenger = production_version(namespace)
    assert challenger != champion
    assert namespace.tags(challenger)["gate.verdict"] == "passed"
    assert namespace.tags(challenger)["gate.contract"].startswith("passed 0 ")
    # Other tests change the address that MLflow keeps for the whole process.
    registry = namespace.environment.registry.tracking_uri
    file = mlflow.artifacts.download_artifacts(
        f"models:/{namespace.model}/{challenger}/contract.json", tracking_uri=registry, registry_uri=registry
    )
    contract = json.loads(Path(file).read_text(encoding="utf-8"))
    assert [feature["name"] for feature in contract["features"]] == OTHERS
    assert contract["ignored"] == PROTECTED == ["gender", "marital_status"]

    promotion.wait_for_phase("Paused")
    outcomes = counted(namespace, "scorer_arm_requests_total", "outcome", {"arm": "canary", "version": challenger})
    assert outcomes.keys() == {"ok"}
    assert outcomes["ok"] >= 40
    # The champion still reads the fields that the challenger ignores, and knows the applicants' groups by them.
    assert counted(namespace, "scorer_pair_decisions_total", "change", {"version": challenger}).total() >= 40
    assert counted(namespace, "scorer_pair_segments_total", "feature", {"version": challenger}).keys() == {*PROTECTED}
    assert scenario.answers_by_canary(challenger) >= 40

    promotion.act("resume")
    scenario.assert_promoted(challenger)
    assert features_of(namespace) == OTHERS
    assert namespace.described_model()["contract"]["ignored"] == PROTECTED

    # The next scenarios in this namespace need a champion with all fields. The way back needs no canary.
    namespace.move_pointer(champion)
    scenario.assert_promoted(champion, by_canary=False)


def features_of(namespace: ScenarioNamespace) -> list[str]:
    """Return the features that /v1/model lists."""
    return [feature["name"] for feature in namespace.described_model()["contract"]["features"]]


def production_version(namespace: ScenarioNamespace) -> str:
    """Return the version that the Production pointer names."""
    return str(namespace.environment.registry.get_model_version_by_alias(namespace.model, "production").version)


def counted(namespace: ScenarioNamespace, name: str, label: str, labels: dict[str, str]) -> Counter[str]:
    """Return what the stable pods counted in a metric's series with these labels, by another label."""
    stack, counts = namespace.environment.stack_in(namespace.name), Counter[str]()
    for pod in filter(is_ready, namespace.pods(STABLE)):
        status, text = management(stack, pod["metadata"]["name"], "/metrics")
        assert status == 200, text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                # The pods may have counted for the canaries of earlier scenarios too.
                if sample.name == name and labels.items() <= sample.labels.items():
                    counts[sample.labels[label]] += int(sample.value)
    return counts
