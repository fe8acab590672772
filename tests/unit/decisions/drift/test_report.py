"""The command on generated decisions: what it finds, what it does not, and how it ends."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from decisions.__main__ import main
from unit.decisions.drift.portfolio import Habits, Portfolio

FIRST, CHANGE = date(2026, 5, 1), date(2026, 5, 12)
# 14 days of earlier decisions, then 7 that are judged.
DAYS, COMPARED = 21, 14
Report = dict[str, Any]


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quiet")
    Portfolio(FIRST, DAYS, 400).write(folder)
    return folder


@pytest.fixture(scope="session")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shifted")
    Portfolio(FIRST, DAYS, 400, {CHANGE: Habits(income=0.65, new_purpose=0.08, missing_bureau=0.15)}).write(folder)
    return folder


def run(folder: Path, capsys: pytest.CaptureFixture[str], *more: str, reference: bool = True) -> tuple[int, Report]:
    known = ["--reference", f"{folder}/training-reference.json"] if reference else []
    code = main(["drift", "--decisions", str(folder), "--contract", f"{folder}/contract.json",
                 "--compare-days", str(COMPARED), "--json", *known, *more])  # fmt: skip
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


def by_name(report: Report, name: str) -> Report:
    return next(of for of in report["features"] if of["name"] == name)


def test_nothing_drifts_where_nothing_changed(quiet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(quiet, capsys)
    assert (code, report["verdict"], report["drifted"]) == (0, "steady", [])
    assert report["headline"].endswith("applicants and scores are as they were.")
    # 5 % of the decisions are of shadows, which decide nothing.
    assert 2600 < report["decisions"] < 2700
    assert (report["since"], report["until"]) == ("2026-05-15T00:00:00Z", "2026-05-22T00:00:00Z")


def test_two_hundred_decisions_do_not_cry_wolf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Portfolio(FIRST, DAYS, 30, seed=3).write(tmp_path)
    code, report = run(tmp_path, capsys)
    assert report["decisions"] < 210
    assert (code, report["drifted"]) == (0, [])


def test_what_changed_is_named_with_the_day_that_it_began(shifted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(shifted, capsys)
    assert (code, report["verdict"]) == (3, "drifted")
    assert {"income", "bureau_score", "purpose"} <= set(report["drifted"])
    assert "gender" not in report["drifted"]
    income, bureau, purpose = (by_name(report, name) for name in ("income", "bureau_score", "purpose"))
    assert {of["since"] for of in (income, bureau, purpose)} == {"2026-05-12"}
    assert income["distance"]["psi"]["lower"] > 0.25
    assert 0.12 < bureau["missing"]["share"] < 0.18
    assert 0.06 < purpose["outside"]["share"] < 0.1
    findings = {finding["subject"]: finding for finding in report["findings"]}
    assert findings["income"]["how_bad"].endswith("a large shift")
    assert "outside of what training saw" in findings["purpose"]["what"]
    assert findings["bureau_score"]["what_to_do"].startswith("Ask who delivers the field")


def test_a_drift_may_end_with_0(shifted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shifted, capsys, "--exit-zero")[0] == 0


def test_without_a_reference_features_are_compared_with_earlier_decisions(
    shifted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = run(shifted, capsys, "--from", "2026-05-12", "--compare-days", "11", reference=False)
    assert report["feature_reference"] == "decisions"
    assert {"income", "purpose"} <= set(report["drifted"])
    assert by_name(report, "income")["reference_rows"] < 4500
    _, report = run(shifted, capsys, "--from", "2026-05-15", "--compare-days", "3", reference=False)
    assert "income" not in report["drifted"], "the three days before had changed already"


def test_an_export_is_read_like_the_archive(shifted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "export.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"""
            COPY (SELECT d.* EXCLUDE (day), i.applicant_id, i.salt, i.inputs
                  FROM '{shifted}/archive/decisions/*/*.parquet' d
                  LEFT JOIN '{shifted}/archive/decision_inputs/*/*.parquet' i USING (id))
            TO '{file}' (FORMAT parquet)
        """)
    assert main(["drift", "--decisions", str(file), "--contract", f"{shifted}/contract.json", "--reference",
                 f"{shifted}/training-reference.json", "--compare-days", str(COMPARED), "--json"]) == 3  # fmt: skip
    of_file, of_folder = json.loads(capsys.readouterr().out), run(shifted, capsys)[1]
    for report in (of_file, of_folder):
        del report["created_at"]
    assert of_file == of_folder


def test_forgotten_inputs_are_not_taken_for_missing_values(
    quiet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in quiet.glob("archive/*/*/*.parquet"):
        target = tmp_path / file.relative_to(quiet)
        target.parent.mkdir(parents=True)
        where = "WHERE hash(id) % 4 > 0" if "decision_inputs" in str(file) else ""
        duckdb.execute(f"COPY (SELECT * FROM '{file}' {where}) TO '{target}' (FORMAT parquet)")
    for name in ("contract.json", "training-reference.json"):
        (tmp_path / name).write_bytes((quiet / name).read_bytes())
    _, report = run(tmp_path, capsys)
    assert 0.2 < report["forgotten"] / report["decisions"] < 0.3
    assert by_name(report, "income")["missing"]["share"] == 0
    assert report["drifted"] == []


def test_outcomes_that_are_worse_than_said_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Loans of more than a year ago have matured.
    Portfolio(date(2025, 2, 1), 40, 300, {date(2025, 2, 1): Habits(default_factor=1.8)}).write(tmp_path)
    _, report = run(tmp_path, capsys, "--outcomes", f"{tmp_path}/outcomes.parquet")
    (version,) = report["performance"]
    assert version["realized"]["default_rate"]["lower"] > version["expected_of_realized"]["default_rate"]["upper"]
    assert {grade["grade"]: grade["light"] for grade in version["grades"]} == dict.fromkeys("ABC", "red")
    assert any("More loans default than it says" in finding["what"] for finding in report["findings"])
    february = report["months"][0]
    assert (february["month"], february["known"]) == ("2025-02-01", february["loans"])
    assert february["cumulative"] == sorted(february["cumulative"])
    assert february["cumulative"][11] == pytest.approx(february["realized"]["default_rate"]["value"])


def test_outcomes_of_young_loans_do_not_count(quiet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, report = run(quiet, capsys, "--outcomes", f"{quiet}/outcomes.parquet", "--matured-months", "1200")
    assert report["performance"][0]["realized"] is None
    assert "No loan with an outcome has matured" in report["findings"][-1]["what"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--decisions", "x.parquet"], "--contract"),
        (["--outcomes", "x.csv"], "go with --decisions"),
        (["--from", "2026-05-09", "--to", "2026-05-01"], "is not before"),
        (["--decisions", "{}", "--contract", "{}/contract.json", "--segment", "religion"], "allowed: income"),
        (["--decisions", "{}", "--contract", "{}/none.json"], "--contract"),
        (
            ["--decisions", "{}", "--contract", "{}/contract.json", "--reference", "{}/contract.json"],
            "training reference",
        ),
        (["--decisions", "{}", "--contract", "{}/contract.json", "--to", "2020-01-01"], "no decisions from"),
    ],
)
def test_wrong_usage_is_named(
    quiet: Path, caplog: pytest.LogCaptureFixture, arguments: list[str], expected: str
) -> None:
    assert main(["drift", *(argument.replace("{}", str(quiet)) for argument in arguments)]) == 2
    assert expected in caplog.text


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan"])
def test_limits_must_be_numbers_of_their_range(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["drift", f"--psi-limit={value}"])
    assert ended.value.code == 2
    assert "allowed: a number between 0 and 10" in capsys.readouterr().err
