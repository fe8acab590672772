"""Decision threshold, grades and swap set of a whole training run: in the contract, the model card and MLflow."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import mlflow
import pytest
from mlflow import MlflowClient

from conftest import REPOSITORY
from trainer.errors import GateRefusedError
from trainer.evaluation.threshold import parse_threshold
from trainer.pipeline import run
from trainer.settings import Settings
from trainer.tracking.runs import metric_names

GENDERS = ("Female", "Male", "Other")


def served_contract() -> dict[str, Any]:
    folder = Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production"))
    document = json.loads((folder / "contract.json").read_text())
    jsonschema.validate(document, json.loads((REPOSITORY / "contracts/model-contract.schema.json").read_text()))
    return dict(document)


@pytest.mark.parametrize(
    ("setting", "rule", "threshold", "words"),
    [
        ("approval-rate=0.7", {"method": "approval_rate", "approval_rate": 0.7}, None, "that approves 0.7 of"),
        (
            "loss-given-default=0.75,margin=0.25",
            {"method": "expected_cost", "loss_given_default": 0.75, "margin": 0.25},
            0.25,
            "at a loss given default of 0.75, exceeds its expected margin of 0.25",
        ),
        ("0.2", {"method": "fixed"}, 0.2, "below 0.2000: a threshold that people chose"),
    ],
)  # fmt: skip
def test_the_decision_threshold_follows_its_rule_and_the_contract_and_card_say_so(
    setting: str, rule: dict[str, Any], threshold: float | None, words: str, settings: Settings
) -> None:
    result = run(replace(settings, threshold=parse_threshold(setting)))
    contract = served_contract()
    assert contract["decision_rule"] == rule
    if threshold is not None:
        assert contract["decision_threshold"] == pytest.approx(threshold)
    logged = mlflow.get_run(result.run_id).data
    assert logged.params["threshold"] == setting
    figures = logged.metrics
    assert figures["decision_threshold"] == contract["decision_threshold"]
    assert figures["gate.approvals"] == figures["test_approved.rows"]
    total = figures["test_approved.rows"] + figures["test_declined.rows"]
    assert figures["test_approval_rate"] == pytest.approx(figures["test_approved.rows"] / total)
    if setting == "approval-rate=0.7":
        assert figures["test_approval_rate"] == pytest.approx(0.7, abs=0.06)
    assert figures["test_approved.default_rate"] < figures["test_declined.default_rate"]
    # Protected groups are judged by the same decisions.
    approved = [figures[f"group.gender.{sex}.approval_rate"] * figures[f"group.gender.{sex}.rows"] for sex in GENDERS]
    assert sum(approved) == pytest.approx(figures["test_approved.rows"])
    card = " ".join(logged.tags["mlflow.note.content"].split())
    assert words in card
    assert f"That approves {figures['test_approval_rate']:.1%} of the test rows" in card


def test_a_threshold_that_approves_nobody_never_reaches_production(settings: Settings) -> None:
    with pytest.raises(GateRefusedError, match="approvals REFUSED: 0, limit 1"):
        run(replace(settings, threshold=parse_threshold("0.000001")))
    assert MlflowClient().get_registered_model("credit-risk").aliases == {}


def test_declared_grades_reach_the_contract_and_are_held_against_the_test_rows(settings: Settings) -> None:
    document = json.loads(settings.features.read_text())
    document["grades"] = [
        {"name": name, "upper_probability": end} for name, end in (("A", 0.05), ("B*", 0.2), ("B/C", 0.5), ("C", 1))
    ]
    declared = settings.work_dir.parent / "features.json"
    declared.write_text(json.dumps(document))
    result = run(replace(settings, features=declared))
    grades = served_contract()["grades"]
    assert [(grade["name"], grade["upper_probability"]) for grade in grades] == [
        ("A", 0.05), ("B*", 0.2), ("B/C", 0.5), ("C", 1.0),
    ]  # fmt: skip
    lower = 0.0
    for grade in grades:
        assert lower < grade["expected_default_rate"] < grade["upper_probability"]
        lower = grade["upper_probability"]
    logged = mlflow.get_run(result.run_id).data
    names = metric_names(["A", "B*", "B/C", "C"])
    rows = [logged.metrics[f"grade.{name}.rows"] for name in names.values()]
    assert sum(rows) == logged.metrics["test_approved.rows"] + logged.metrics["test_declined.rows"]
    card = logged.tags["mlflow.note.content"]
    assert "### Grades" in card
    for grade, count in zip(grades, rows, strict=True):
        expected = f"{grade['expected_default_rate']:.2%}"
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {grade['name']} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[2:4] == [str(int(count)), expected]
        assert cells[6] in {"holds", "too low", "too high", "no test rows"}


def test_calibration_is_told_by_probability_whether_grades_are_declared_or_not(settings: Settings) -> None:
    logged = mlflow.get_run(run(settings).run_id).data
    card = logged.tags["mlflow.note.content"]
    calibration = card[card.index("## Calibration") : card.index("## Gates")]
    bands = [line.strip("|").split("|") for line in calibration.splitlines() if line[:3].removeprefix("| ").isdigit()]
    assert len(bands) == 9
    assert (bands[0][0].strip(), bands[-1][0].strip()) == ("0 to 0.0025", "0.5 to 1")
    total = logged.metrics["test_approved.rows"] + logged.metrics["test_declined.rows"]
    assert sum(int(cells[1]) for cells in bands) == total
    assert "| grade |" not in calibration
    assert not [name for name in logged.metrics if name.startswith("grade.")]


def test_the_card_says_whom_a_challenger_would_decide_differently_than_the_champion(settings: Settings) -> None:
    first = run(replace(settings, threshold=parse_threshold("0.1")))
    alone = mlflow.get_run(first.run_id).data
    assert "## Swap set" not in alone.tags["mlflow.note.content"]
    assert not [name for name in alone.metrics if name.startswith("swap.")]
    second = mlflow.get_run(run(replace(settings, threshold=parse_threshold("0.3"))).run_id).data
    swaps = {name: second.metrics[f"swap.{name}.rows"] for name in (
        "approved_by_both", "swapped_in", "swapped_out", "declined_by_both",
    )}  # fmt: skip
    # The same data, seed and so network, with a threshold that approves more.
    assert swaps["swapped_out"] == 0 < swaps["swapped_in"]
    assert "swap.swapped_out.default_rate" not in second.metrics
    assert swaps["approved_by_both"] == alone.metrics["test_approved.rows"]
    assert swaps["declined_by_both"] == second.metrics["test_declined.rows"]
    card = " ".join(second.tags["mlflow.note.content"].split())
    assert "by the decisions of Production version 1 (threshold 0.1000) and of this model (0.3000)" in card
    rate = second.metrics["swap.swapped_in.default_rate"]
    assert f"| swapped in | {swaps['swapped_in']:.0f} | {rate:.2%} |" in card
    assert "| swapped out | 0 | - | - |" in card


def test_grades_of_another_default_rate_are_held_against_the_outcomes_at_that_of_the_data(settings: Settings) -> None:
    document = json.loads(settings.features.read_text())
    document["grades"] = [{"name": "A", "upper_probability": 0.03}, {"name": "B", "upper_probability": 1}]
    declared = settings.work_dir.parent / "features.json"
    declared.write_text(json.dumps(document))
    result = run(replace(settings, features=declared, default_rate=0.02))
    figures = mlflow.get_run(result.run_id).data.metrics
    contract = served_contract()
    stated = {grade["name"]: grade["expected_default_rate"] for grade in contract["grades"]}
    for name in ("A", "B"):
        # The contract speaks of the model's answers, the model card of the data: about ten times as many default.
        assert figures[f"grade.{name}.expected_default_rate"] > 2 * stated[name]
        assert figures[f"grade.{name}.default_rate"] > 2 * stated[name]
    assert figures["grade.B.expected_default_rate"] == pytest.approx(figures["grade.B.default_rate"], abs=0.15)
