"""`kubectl promotion` on a real cluster: what it shows and does, its exit codes, and no more rights than its user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from e2e import model_versions as versions
from e2e.parallel import promotion_scenario
from e2e.promotion import STAYS_AT_30_PERCENT
from e2e.scenario import Scenario

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def plugin(scenario: Scenario, *arguments: str, namespace: str = "", code: int = 0) -> str:
    """Run the plugin and return what it wrote to stdout; its exit code must be `code`."""
    stack = scenario.namespace.environment.stack
    command = [sys.executable, "-m", "kubectl_promotion", *arguments, "-n", namespace or scenario.namespace.name]
    environment = {name: value for name, value in stack.environment().items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert ended.returncode == code, f"{arguments}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout if code == 0 else ended.stdout + ended.stderr


def document(scenario: Scenario, *arguments: str) -> Any:
    return json.loads(plugin(scenario, *arguments, "-o", "json"))


@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_a_rollout_is_watched_skipped_ahead_waited_for_and_undone(scenario: Scenario) -> None:
    before, version = scenario.stable, scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    shown = " ".join(plugin(scenario, "get").split())
    for words in (f"version {before} stable, 70 %", f"version {version} canary, 30 %", "scoring-canary: 1 of 1",
                  "◌ 1: 30 % for 10m", "the promotion in"):  # fmt: skip
        assert words in shown, shown
    assert document(scenario, "get")["status"]["canaryVersion"] == version
    assert "not over" in plugin(scenario, "status", "--no-wait", code=7)
    assert "only a rollout that is paused" in plugin(scenario, "promote", code=4)

    assert "skip-step done" in plugin(scenario, "promote", "--skip-step")
    assert f"version {version} is promoted" in plugin(scenario, "status", "--version", version)
    scenario.assert_promoted(version)

    assert f"goes back to version {before}, without a canary" in plugin(scenario, "undo")
    plugin(scenario, "status", "--version", before)
    assert scenario.promotion.status()["stableVersion"] == before
    assert [entry["version"] for entry in document(scenario, "history")["history"]][:2] == [before, version]
    stack = scenario.namespace.environment.stack
    compared = plugin(scenario, "diff", before, version, "--model", scenario.namespace.model, namespace=stack.namespace)
    assert "Contract: compatible" in compared


@pytest.mark.soak
@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_an_abort_is_explained_and_a_user_without_rights_is_told_so(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    nobody = f"--as=system:serviceaccount:{scenario.namespace.name}:default"
    assert "no permission" in plugin(scenario, "abort", scenario.promotion.name, nobody, code=4)
    assert "no permission" in plugin(scenario, "get", scenario.promotion.name, "-w", nobody, code=4)
    assert "not found" in plugin(scenario, "get", "absent", code=3)

    assert "abort done" in plugin(scenario, "abort")
    assert f"version {version} was rolled back (Aborted)" in plugin(scenario, "status", code=6)
    assert document(scenario, "explain")["version"] == version
    assert "somebody aborted it" in plugin(scenario, "explain")
    assert "retry done" in plugin(scenario, "retry")
    scenario.promotion.wait_for_weight(30)


@pytest.mark.soak
@promotion_scenario(steps=None, strategy="Experiment", experiment={"weight": 50, "duration": "20s"})
def test_an_experiment_is_waited_for_explained_and_repeated_but_not_promoted(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(50)
    assert "an Experiment promotes nothing" in plugin(scenario, "promote", "--full", code=4)
    assert f"the experiment with version {version} is complete" in plugin(scenario, "status", "--version", version)
    scenario.assert_completed(version)
    explained = document(scenario, "explain")
    assert (explained["version"], "promotes nothing" in explained["summary"]) == (version, True)
    titles = [point["title"] for point in explained["points"]]
    assert titles[:3] == ["experiment", "both arms", "measured, with a confidence of 95 %"]
    assert "retry done" in plugin(scenario, "retry")
    scenario.promotion.wait_for_weight(50)
    assert "skip-step done" in plugin(scenario, "promote", "--skip-step")
    scenario.promotion.wait_for_phase("Idle")
