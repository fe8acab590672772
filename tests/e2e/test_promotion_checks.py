"""A canary is judged by the decision log: its own decisions, shipped to Postgres while the rollout goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from e2e import model_versions as versions
from e2e.decision_log import install_promoting, promoting_release
from e2e.environment import Environment
from e2e.promotion import ANALYSIS, STEPS
from e2e.scenario import Scenario

# A release of its own, because the decision log is off in the stack that the other tests share.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAMESPACE = "promo-checks"
# With limits as wide as 40 decisions are enough for.
AUC: dict[str, Any] = {"type": "EstimatedAUC", "limit": 0.4}
DECLINED: dict[str, Any] = {"type": "SQL", "name": "declined", "limit": 0.9, "query": (
    "SELECT avg((decision = 'decline')::int) FROM check_decisions "
    "WHERE version = :version AND id >= check_first_id(:since)")}  # fmt: skip


@pytest.fixture(scope="module")
def scenario(environment: Environment) -> Iterator[Scenario]:
    """A release with the decision log and an operator, which serves a model of its own from the shared registry."""
    with promoting_release(environment, NAMESPACE) as (namespace, release):
        install_promoting(namespace, release, "--set=decisions.checks.sql=true")
        yield Scenario(namespace)


def judged_by(*metrics: dict[str, Any]) -> dict[str, Any]:
    return {"steps": STEPS, "analysis": {**ANALYSIS, "metrics": list(metrics)}}


def test_a_good_version_is_promoted_by_what_the_log_says(scenario: Scenario) -> None:
    scenario.follow_pointer(**judged_by({"type": "ErrorRate", "limit": 0.05}, AUC, DECLINED))
    with scenario.steady_clients():
        version = scenario.roll_out(versions.good)
        status = scenario.promotion.wait_for("a successful analysis", lambda s: (
            (s.get("analysis") or {}).get("verdict") == "Successful"))  # fmt: skip
        scenario.assert_promoted(version)
    found = {result["name"]: result for result in status["analysis"]["results"]}
    assert found["EstimatedAUC"]["samples"] >= ANALYSIS["minSamples"]
    assert found["EstimatedAUC"]["lower"] < found["EstimatedAUC"]["value"] < found["EstimatedAUC"]["upper"]
    assert "if their PDs are right; the canary's newest decision in the log is" in found["EstimatedAUC"]["message"]
    assert 0 <= found["declined"]["value"] <= 0.9


def test_a_version_that_declines_too_many_is_rolled_back_by_sql(scenario: Scenario) -> None:
    scenario.follow_pointer(**judged_by({**DECLINED, "limit": 0.0}))
    with scenario.steady_clients():
        version = scenario.roll_out(versions.shifted)
        scenario.assert_rolled_back(version, "AnalysisFailed", "declined: ", "> 0")


def test_sql_that_asks_for_applicants_cannot_be_measured(scenario: Scenario) -> None:
    asking = {**DECLINED, "query": "SELECT count(*) FROM decision_inputs"}
    scenario.follow_pointer(**judged_by(asking))
    with scenario.steady_clients():
        version = scenario.roll_out(versions.good)
        scenario.assert_rolled_back(version, "AnalysisError", "permission denied for table decision_inputs")
