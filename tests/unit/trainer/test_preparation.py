"""The data on its way to training: which rows are tested, and what they count."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainer.data.declaration import BUILT_IN_DECLARATION
from trainer.data.problems import InvalidDataError
from trainer.data.synthetic import generate
from trainer.data.time_split import Split
from trainer.errors import BadInputError
from trainer.learning.hyperparameters import Hyperparameters
from trainer.preparation import prepare
from trainer.settings import Settings


@pytest.fixture
def dated() -> pd.DataFrame:
    """Return loans of ten months, in no order, with weights."""
    frame = generate(1_000, seed=1)
    months = pd.date_range("2024-01-01", periods=10, freq="MS").strftime("%Y-%m-%d")
    row = np.random.default_rng(0).permutation(len(frame))
    return frame.assign(granted=months[row % 10], copies=1 + row % 3)


def settings_for(frame: pd.DataFrame, folder: Path, **changes: object) -> Settings:
    """Return settings that train on these loans, which declare their dates and weights if they have them."""
    document = json.loads(BUILT_IN_DECLARATION.read_text(encoding="utf-8"))
    document |= {"date_column": "granted"} if "granted" in frame else {}
    document |= {"weight_column": "copies"} if "copies" in frame else {}
    features, data = folder / "features.json", folder / "loans.csv"
    features.write_text(json.dumps(document), encoding="utf-8")
    frame.to_csv(data, index=False)
    return replace(Settings(data=str(data), tracking_uri="", features=features, split=Split.TIME), **changes)  # type: ignore[arg-type]


def test_the_newest_months_are_tested_and_both_periods_are_said(
    dated: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    inputs = prepare(settings_for(dated, tmp_path))
    assert (len(inputs.training), len(inputs.test)) == (800, 200)
    assert inputs.training.frame["granted"].max() == pd.Timestamp("2024-08-01")
    assert inputs.test.frame["granted"].min() == pd.Timestamp("2024-09-01")
    said = "split by granted: training rows of 2024-01-01 to 2024-08-01, test rows of 2024-09-01 to 2024-10-01"
    assert inputs.split_in_words == said
    assert said in caplog.text
    assert inputs.facts == {
        "weight_column": "copies",
        "training_dates": "2024-01-01 to 2024-08-01",
        "test_dates": "2024-09-01 to 2024-10-01",
    }


def test_by_default_rows_are_split_by_content_whatever_their_dates(dated: pd.DataFrame, tmp_path: Path) -> None:
    inputs = prepare(settings_for(dated, tmp_path, split=Split.SHUFFLED))
    assert inputs.split_in_words == (
        "split by content: training rows of 2024-01-01 to 2024-10-01, test rows of 2024-01-01 to 2024-10-01"
    )
    plain = prepare(settings_for(dated.drop(columns="granted"), tmp_path, split=Split.SHUFFLED))
    assert plain.split_in_words == "split by content"
    assert plain.test.target.tolist() == inputs.test.target.tolist()


def test_rows_of_few_kinds_that_leave_no_test_rows_are_told_from_few_rows(loans: pd.DataFrame, tmp_path: Path) -> None:
    repeated = pd.concat([loans.drop(columns="id").head(1)] * 900, ignore_index=True)
    repeated["loan_paid_back"] = np.arange(len(repeated)) % 2
    with pytest.raises(
        InvalidDataError, match=r"never divided, and the number of different combinations is only 1: declare"
    ):
        prepare(settings_for(repeated, tmp_path, split=Split.SHUFFLED))


def test_a_split_by_time_without_declared_dates_says_what_to_declare(dated: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r'declare its column as "date_column" in .*features\.json'):
        prepare(settings_for(dated.drop(columns="granted"), tmp_path))


def test_too_few_dates_are_a_problem_of_the_date_column(dated: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="column granted: all rows have the date 2024-05-01"):
        prepare(settings_for(dated.assign(granted="2024-05-01"), tmp_path))
    halves = dated.assign(granted=np.where(dated.index < 400, "2024-05-01", "2024-05-02"))
    with pytest.raises(InvalidDataError, match=r"column granted: 2 dates are too few .* 60\.0%; --test-share=0\.6"):
        prepare(settings_for(halves, tmp_path))
    assert len(prepare(settings_for(halves, tmp_path, test_share=0.6)).test) == 600


def test_another_split_or_default_rate_is_another_run(dated: pd.DataFrame, tmp_path: Path) -> None:
    changes: list[dict[str, object]] = [
        {},
        {"split": Split.SHUFFLED},
        {"default_rate": 0.04},
        {"hyperparameters": Hyperparameters(class_weight="balanced")},
    ]
    found = [prepare(settings_for(dated, tmp_path, **change)).fingerprint for change in changes]
    assert len(set(found)) == 4


def test_weights_of_rows_and_classes_are_said(dated: pd.DataFrame, tmp_path: Path) -> None:
    balanced = Hyperparameters(class_weight="balanced")
    inputs = prepare(settings_for(dated, tmp_path, hyperparameters=balanced))
    # Kish: (1 + 2 + 3) ** 2 / (1 + 4 + 9) of every three rows.
    assert inputs.training.effective_rows == pytest.approx(800 * 36 / 14 / 3, rel=0.02)
    assert inputs.weights_in_words == (
        f"Rows count by copies, and are as good a sample as {inputs.training.effective_rows:.0f} training and "
        f"{inputs.test.effective_rows:.0f} test rows of equal weight. In training, all defaults together count as much "
        "as all repaid loans; the probabilities are corrected for it."
    )
    plain = dated.drop(columns="copies")
    assert prepare(settings_for(plain, tmp_path)).weights_in_words == ""
    triple = prepare(settings_for(plain, tmp_path, hyperparameters=Hyperparameters(class_weight=3.0)))
    assert "a default counts 3 times as much as a repaid loan" in triple.weights_in_words


def test_a_part_whose_defaults_have_no_weight_is_refused(dated: pd.DataFrame, tmp_path: Path) -> None:
    newest = dated["granted"] >= "2024-09-01"
    without = dated.assign(copies=np.where(newest & (dated["loan_paid_back"] == 0), 0, 1))
    with pytest.raises(InvalidDataError, match="all test rows with a weight above 0 have the same outcome"):
        prepare(settings_for(without, tmp_path))
