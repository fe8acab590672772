"""Applicants drift, a report finds it, a training starts, and its version passes a canary or is stopped by a gate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from e2e.decision_log import Sender, install_promoting, promoting_release, run_job
from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.promotion import ANALYSIS
from e2e.scenario import Scenario
from localcluster.console import wait_for
from localcluster.stack import Stack
from trainer.data.synthetic import generate

# A release of its own, because the decision log is off in the stack that the other tests share.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAMESPACE = "promo-retraining"
# A training refuses data with fewer than 500 rows; almost all of these applicants are approved.
APPLICANTS, BATCH = 1500, 500
TRAINING_SECONDS = 900.0
QUICK = ["--hidden=16", "--bins=8", "--batch-rows=64", "--epochs=4", "--maximum-ece=1", "--minimum-air=0", "--margin=1"]
PASSES, IS_REFUSED = [*QUICK, "--minimum-auc=0"], [*QUICK, "--minimum-auc=0.999"]
RETRAINING: Document = {
    "drift": {"duration": "0s"}, "cooldown": "1m", "maxPerWeek": 5, "maxDuration": "15m",
}  # fmt: skip
# The new model learned from other applicants, so its scores may differ from the champion's.
ROLLOUT: Document = {
    "steps": [{"weight": 50, "duration": "5s"}],
    "analysis": {**ANALYSIS, "metrics": [{"type": "ErrorRate", "limit": 0.05}]},
}


class Loop:
    """A release whose decisions are logged and whose operator may retrain, and its applicants."""

    def __init__(self, scenario: Scenario, release: Stack) -> None:
        self.scenario, self.release, self.sender = scenario, release, Sender(release)

    @property
    def model(self) -> str:
        return self.scenario.namespace.model

    def install(self, arguments: Sequence[str]) -> None:
        """Install or upgrade the release, with these arguments of its trainings."""
        registry = f"http://mlflow.{self.scenario.namespace.environment.stack.namespace}:5000"
        given = json.dumps([f"--model-name={self.model}", *arguments])
        install_promoting(
            self.scenario.namespace, self.release, "--set=operator.drift.seconds=5",
            "--set=operator.retraining.enabled=true", f"--set=decisions.mlflowUrl={registry}",
            # With a schedule that is months away, the release trains nothing by itself.
            "--set=training.enabled=true", "--set=training.schedule=0 0 29 2 *", f"--set=training.mlflowUrl={registry}",
            "--set=training.resources.requests.cpu=20m", f"--set-json=training.args={given}",
            "--set=training.retraining.enabled=true", "--set=training.retraining.data=decisions://?matured=0m",
        )  # fmt: skip

    def apply_for_loans(self, seed: int) -> None:
        """Score applicants who are better than those that the champion learned from, and report what became of them."""
        frame = generate(12 * APPLICANTS, seed)
        better = frame[(frame["credit_score"] > 700) & (frame["employment_status"] == "Employed")][:APPLICANTS]
        assert len(better) == APPLICANTS
        repaid = better.pop("loan_paid_back").tolist()
        rows = json.loads(better.drop(columns="id").to_json(orient="records"))
        for start in range(0, APPLICANTS, BATCH):
            body = json.dumps(rows[start : start + BATCH]).encode()
            request_id = self.sender.score("/v1/score/batch", body, "application/json")
            self._report(self._decided(request_id), repaid[start : start + BATCH])

    def _decided(self, request_id: str) -> list[Document]:
        """Return the decisions of a request, once all have arrived."""

        def missing() -> str | None:
            found = len(self.sender.decisions(request_id=request_id, limit=1000))
            return None if found >= BATCH else f"{found} of {BATCH} are there"

        wait_for(f"the decisions of {request_id}", missing, timeout_seconds=120)
        return self.sender.decisions(request_id=request_id, limit=1000)

    def _report(self, decisions: list[Document], repaid: list[int]) -> None:
        """Report the outcomes of approved loans."""
        now = datetime.now(UTC).isoformat()
        rows = [
            {"decision_id": found["decision_id"], "outcome": "repaid" if repaid[found["row"]] else "defaulted",
             "observed_at": now}
            for found in decisions if found["decision"] == "approve"
        ]  # fmt: skip
        key = f"Bearer {self.release.decisions_key}"
        body = json.dumps(rows).encode()
        taken = json.loads(self.sender.send("POST", "/v1/outcomes", body, Authorization=key,
                                            Content_Type="application/json"))  # fmt: skip
        assert taken["rejected"] == 0, taken

    def look_for_drift(self) -> None:
        """Make a report about today."""
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
        run_job(self.release, "decisions-drift", "drift", "--to", str(tomorrow), "--days", "2", "--publish",
                "--exit-zero")  # fmt: skip

    def wait_for_drift(self, *reasons: str) -> None:
        """Wait until the condition Drifted has one of these reasons."""
        self.scenario.promotion.wait_for(f"Drifted has a reason of {reasons}", lambda _: (
            self.scenario.promotion.conditions().get("Drifted", ("", ""))[1] in reasons))  # fmt: skip

    def wait_for_training(self, outcome: str) -> Document:
        """Wait until a training has ended, and return it."""

        def ended(status: Document) -> bool:
            trainings = (status.get("retraining") or {}).get("trainings") or [{}]
            assert trainings[0].get("outcome") in {None, outcome}, trainings[0]
            return bool(trainings[0].get("outcome") == outcome)

        status = self.scenario.promotion.wait_for(f"a training that {outcome}", ended, TRAINING_SECONDS)
        found: Document = status["retraining"]["trainings"][0]
        return found

    def timeline(self) -> list[str]:
        """Return the kinds of the model's events."""
        key = f"Bearer {self.release.decisions_key}"
        answer = json.loads(self.sender.send("GET", f"/v1/models/{self.model}/timeline", Authorization=key))
        return [event["kind"] for event in answer["events"]]


@pytest.fixture(scope="module")
def loop(environment: Environment) -> Iterator[Loop]:
    """A release with the whole loop, which serves a model of its own from the shared registry."""
    with promoting_release(environment, NAMESPACE) as (namespace, release):
        found = Loop(Scenario(namespace), release)
        found.install(IS_REFUSED)
        yield found


def test_a_training_that_a_gate_refuses_is_told_and_the_champion_serves_on(
    loop: Loop, environment: Environment
) -> None:
    loop.install(IS_REFUSED)
    loop.scenario.follow_pointer(**ROLLOUT)
    loop.apply_for_loans(seed=31)
    loop.look_for_drift()
    loop.wait_for_drift("DriftFound")
    loop.scenario.promotion.apply(**ROLLOUT, retraining=RETRAINING)
    training = loop.wait_for_training("Refused")
    promotion = loop.scenario.promotion
    assert promotion.conditions()["Retraining"] == ("False", "BackingOff")
    assert "a gate refused the model" in promotion.condition_message("Retraining")
    assert "TrainingRefused" in promotion.events()
    assert promotion.status()["stableVersion"] == loop.scenario.namespace.served() == loop.scenario.stable
    # The champion's own: it was taken over without a rollout.
    assert {ended.version for ended in promotion.history()} <= {loop.scenario.stable}
    experiment = environment.registry.get_experiment_by_name(loop.model)
    assert experiment
    runs = environment.registry.search_runs([experiment.experiment_id], "tags.refused != ''")
    assert training["reason"] in {run.data.tags["training.reason"] for run in runs}


def test_applicants_drift_and_the_version_that_learned_from_them_serves(loop: Loop) -> None:
    loop.install(PASSES)
    loop.scenario.follow_pointer(**ROLLOUT)
    champion = loop.scenario.stable
    loop.apply_for_loans(seed=47)
    loop.look_for_drift()
    loop.wait_for_drift("DriftFound")
    loop.scenario.promotion.apply(**ROLLOUT, retraining=RETRAINING)
    training = loop.wait_for_training("Succeeded")
    with loop.scenario.steady_clients(rate=10):
        status = loop.scenario.promotion.wait_for("the new version is promoted", lambda s: (
            s.get("phase") == "Idle" and s.get("stableVersion") != champion))  # fmt: skip
    version = status["stableVersion"]
    assert loop.scenario.promotion.history()[0].outcome == "Promoted"
    assert loop.scenario.namespace.tags(version)["training.reason"] == training["reason"]
    assert training["reason"].startswith("drift for 0 days: ")
    loop.wait_for_drift("OtherVersion")
    # More than the champion decided today, so that the next report is about the new version.
    for seed in range(60, 66):
        loop.apply_for_loans(seed)
    loop.look_for_drift()
    loop.wait_for_drift("Steady", "Unclear")
    kinds = loop.timeline()
    assert {"TrainingStarted", "TrainingEnded", "RolloutStarted", "Promoted"} <= set(kinds)
