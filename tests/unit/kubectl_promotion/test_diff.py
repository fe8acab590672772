"""What `diff` compares if nobody says, and what the figures mean."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from conftest import REPOSITORY
from kubectl_promotion.cluster.registry import ModelVersion
from kubectl_promotion.words.comparison import Section, compare
from promoter.api.status import Phase
from shell import Shell
from unit.kubectl_promotion.api_server import ApiServer
from unit.kubectl_promotion.documents import document, state_in

CONTRACT = json.loads((REPOSITORY / "contracts/golden/model-contract-4.json").read_text())
VERSION = ModelVersion(
    model="credit-risk", version="7", run_id="r7", created_at=1.0, tags={"gate.auc": "passed 0.8 limit 0.7"},
    parameters={"epochs": "10", "seed": "0"}, metrics={"test_roc_auc": 0.8, "test_brier": 0.1, "train_loss": 0.5},
    contract=CONTRACT, artifacts="",
)  # fmt: skip


def section(title: str, before: ModelVersion, after: ModelVersion) -> Section:
    return next(found for found in compare(before, after) if found.title == title)


def test_a_version_differs_from_itself_in_nothing() -> None:
    for found in compare(VERSION, VERSION):
        assert not [row for row in found.rows if row.differs], found.title
    assert section("Parameters", VERSION, VERSION).summary == "0 of 2 differ"
    assert section("Contract", VERSION, VERSION).summary.startswith("compatible")


def test_better_and_worse_depend_on_the_metric() -> None:
    other = replace(VERSION, metrics={"test_roc_auc": 0.9, "test_brier": 0.2, "train_loss": 0.1})
    assert {row.name: row.note for row in section("Metrics", VERSION, other).rows} == {
        "test_roc_auc": "better", "test_brier": "worse",
    }  # fmt: skip


def test_metrics_outlive_their_run_in_the_tags_of_the_version() -> None:
    old = replace(VERSION, metrics={}, tags={"metric.roc_auc": "0.75", "metric.note": "none"})
    row = section("Metrics", old, VERSION).rows[-1]
    assert (row.name, row.before, row.after) == ("test_roc_auc", 0.75, 0.8)


def test_what_clients_can_no_longer_send_is_listed() -> None:
    changed = json.loads(json.dumps(CONTRACT))
    dropped = changed["features"].pop()
    changed["decision_threshold"] = 0.4
    found = section("Contract", VERSION, replace(VERSION, contract=changed))
    assert found.summary == "incompatible: 1 problems"
    notes = [row.note for row in found.rows if row.name == dropped["name"]]
    assert notes[0] == "no longer used"
    assert notes[1].startswith("feature-dropped")
    assert ("decision_threshold", CONTRACT["decision_threshold"], 0.4) in {
        (row.name, row.before, row.after) for row in found.rows
    }


@pytest.mark.parametrize(("contract", "words"), [(None, "does not serve contract.json"), ({}, "format_version")])
def test_a_contract_that_cannot_be_read_is_said(contract: dict[str, object] | None, words: str) -> None:
    assert words in section("Contract", VERSION, replace(VERSION, contract=contract)).summary


def test_groups_below_the_four_fifths_rule_stand_out() -> None:
    groups = {"group.gender.Female.adverse_impact_ratio": 0.95, "group.gender.Female.approval_rate": 0.6}
    worse = {"group.gender.Female.adverse_impact_ratio": 0.7, "group.gender.Female.approval_rate": 0.4}
    found = section("Fairness", replace(VERSION, metrics=groups), replace(VERSION, metrics=worse))
    assert found.summary == "1 groups below the four-fifths rule"
    assert [(row.name, row.note) for row in found.rows] == [
        ("gender Female approval_rate", ""),
        ("gender Female adverse_impact_ratio", "below 0.8, the four-fifths rule"),
    ]


def test_grades_are_compared_as_expected_and_observed() -> None:
    grades = {"grade.A.expected_default_rate": 0.01, "grade.A.default_rate": 0.02, "grade.A.rows": 50.0}
    found = section("Calibration", VERSION, replace(VERSION, metrics={**grades, "test_ece": 0.01}))
    assert [(row.name, row.after) for row in found.rows] == [
        ("expected calibration error", 0.01), ("grade A expected", 0.01), ("grade A observed", 0.02),
    ]  # fmt: skip


def test_stable_and_canary_are_compared_if_nobody_says(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PROGRESSING)))
    # MLflow is away, and the message shows that the ModelPromotion was enough to get there.
    ended = promotion("diff", "--tracking-uri", "http://127.0.0.1:1")
    assert (ended.code, "cannot reach MLflow at http://127.0.0.1:1" in ended.err) == (5, True)
    server.store.put(document(state_in(Phase.IDLE, canary_version=None, desired_version="7")))
    alone = promotion("diff", "--tracking-uri", "http://127.0.0.1:1")
    assert (alone.code, "has one version alone (7): name two" in alone.err) == (3, True)
    assert promotion("diff", "7", "--model", "m").code == 2
    assert promotion("diff", "7", "8", "--service", "mlflow").code == 2
    absent = promotion("diff", "7", "8")
    assert (absent.code, "MLflow's Service mlflow:5000 in namespace bank cannot be reached" in absent.err) == (3, True)
