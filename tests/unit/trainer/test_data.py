"""Data: what is trained on, and what is refused with one report of everything that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import REAL_LOANS
from trainer.data import DataError, read_loans
from trainer.features import CATEGORICAL, FEATURES, NUMERIC
from trainer.synthetic import generate


@pytest.fixture
def frame() -> pd.DataFrame:
    return generate(600, 1)


def complaint_about(frame: pd.DataFrame, folder: Path) -> str:
    file = folder / "loans.csv"
    frame.to_csv(file, index=False)
    with pytest.raises(DataError) as caught:
        read_loans(str(file))
    return str(caught.value)


def test_loans_are_read_in_the_order_of_the_features(frame: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "loans.csv"
    frame.to_csv(file, index=False)
    loans = read_loans(str(file))
    assert loans.numeric.shape == (600, len(NUMERIC))
    assert loans.categorical.shape == (600, len(CATEGORICAL))
    assert loans.numeric[3].tolist() == pytest.approx([float(frame[f.name][3]) for f in NUMERIC])
    words = [f.categories[code] for f, code in zip(CATEGORICAL, loans.categorical[3], strict=True)]
    assert words == [frame[f.name][3] for f in CATEGORICAL]


def test_the_target_is_default_not_repayment(frame: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "loans.csv"
    frame.to_csv(file, index=False)
    np.testing.assert_array_equal(read_loans(str(file)).default, 1 - frame["loan_paid_back"])


def test_columns_beyond_the_features_are_ignored(frame: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "loans.csv"
    frame.assign(favourite_colour="blue").to_csv(file, index=False)
    assert len(read_loans(str(file))) == 600


def test_missing_columns_are_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    text = complaint_about(frame.drop(columns=["gender", "loan_paid_back"]), tmp_path)
    assert "columns are missing: gender, loan_paid_back" in text


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("credit_score", 20_000, "credit_score is outside of 300 to 850 in 1 rows (lines 12)"),
        ("credit_score", "good", "credit_score is not a number in 1 rows (lines 12)"),
        ("credit_score", None, "credit_score is missing in 1 rows (lines 12)"),
        ("gender", "Robot", "gender is not one of Female, Male, Other in 1 rows (lines 12)"),
        ("loan_paid_back", 2, "loan_paid_back is not 0 or 1 in 1 rows (lines 12)"),
        ("id", 3, "id stands twice in 1 rows (lines 12)"),
    ],
)
def test_a_bad_value_is_reported_with_its_line(
    frame: pd.DataFrame, tmp_path: Path, column: str, value: Any, said: str
) -> None:
    changed = frame.astype({column: object})
    changed[column] = [value if row == 10 else old for row, old in enumerate(changed[column])]
    assert said in complaint_about(changed, tmp_path)


def test_all_problems_stand_in_one_report(frame: pd.DataFrame, tmp_path: Path) -> None:
    changed = frame.astype({"gender": object})
    changed["gender"] = "Robot"
    changed["annual_income"] = -1.0
    text = complaint_about(changed, tmp_path)
    assert "gender" in text
    assert "annual_income" in text
    assert "in 600 rows (lines 2, 3, 4, 5, 6, …)" in text


def test_too_few_rows_and_a_constant_target_are_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    text = complaint_about(frame.head(20).assign(loan_paid_back=1), tmp_path)
    assert "20 rows are too few" in text
    assert "the same in every row" in text


@pytest.mark.parametrize("source", ["/no/such/file.csv", "/"])
def test_a_source_that_cannot_be_read_is_said_so(source: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_loans(source)


def test_the_synthetic_sample_is_always_the_same_and_looks_like_loans() -> None:
    sample = generate(20_000, 7)
    pd.testing.assert_frame_equal(sample, generate(20_000, 7))
    assert 0.15 < 1 - sample["loan_paid_back"].mean() < 0.27
    for feature in FEATURES:
        assert feature.name in sample.columns


@pytest.mark.skipif(not REAL_LOANS.exists(), reason="../shared/data/loans.csv is not there")
def test_the_real_data_is_accepted() -> None:
    loans = read_loans(str(REAL_LOANS))
    assert len(loans) == 16_000
    assert loans.default.mean() == pytest.approx(0.2, abs=0.01)
