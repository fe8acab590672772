"""Weights and dates of rows: what is read, and what is refused with which words."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainer.data.dataset import encode
from trainer.data.declaration import FeatureDeclaration
from trainer.data.validation import validate
from unit.trainer.written_tables import problems, written_and_read


@pytest.fixture
def weighted(declaration: FeatureDeclaration) -> FeatureDeclaration:
    return declaration.model_copy(update={"weight_column": "copies", "date_column": "granted"})


@pytest.fixture
def table(loans: pd.DataFrame) -> pd.DataFrame:
    row = np.arange(len(loans))
    months = pd.date_range("2024-01-01", periods=10, freq="MS").strftime("%Y-%m-%d")
    return loans.assign(copies=row % 4, granted=months[row % 10])


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_weights_and_dates_are_the_same_from_every_format(
    form: str, table: pd.DataFrame, weighted: FeatureDeclaration, tmp_path: Path
) -> None:
    frame = validate(written_and_read(table, weighted, tmp_path, form=form), weighted, minimum_rows=100)
    assert frame["copies"].tolist() == pytest.approx([(row % 4) / 1.5 for row in range(len(table))])
    assert frame["granted"].dt.strftime("%Y-%m-%d").tolist() == table["granted"].tolist()


def test_only_the_relations_between_weights_count(
    table: pd.DataFrame, weighted: FeatureDeclaration, tmp_path: Path
) -> None:
    plain = validate(written_and_read(table, weighted, tmp_path), weighted, minimum_rows=100)
    # The sum of these is more than a float holds.
    huge = validate(
        written_and_read(table.assign(copies=table["copies"] * 5e307), weighted, tmp_path), weighted, minimum_rows=100
    )
    assert huge["copies"].tolist() == pytest.approx(plain["copies"].tolist())


def test_weights_and_dates_are_never_features(
    table: pd.DataFrame, weighted: FeatureDeclaration, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    frame = validate(written_and_read(table, weighted, tmp_path), weighted, minimum_rows=100)
    data, without = encode(frame, weighted), encode(frame, declaration)
    assert data.numeric.tobytes() == without.numeric.tobytes()
    assert data.categorical.tobytes() == without.categorical.tobytes()
    assert data.weight is not None
    assert data.weight.mean() == pytest.approx(1)
    assert without.weight is None


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("copies", -1, "a negative weight (such as -1.0)"),
        ("copies", None, "missing weight; 0 leaves a row out"),
        ("copies", float("nan"), "missing weight; 0 leaves a row out"),
        ("copies", "two", "not a number (such as two)"),
        ("copies", "1,5", "not a number (such as 1,5)"),
        ("copies", float("inf"), "an infinite weight (such as inf)"),
        ("copies", float("-inf"), "an infinite weight (such as -inf)"),
        ("granted", None, "missing date"),
        ("granted", "soon", "no date (such as soon)"),
        ("granted", "31.12.2024", "no date (such as 31.12.2024)"),
    ],
)
def test_each_kind_of_invalid_cell_is_reported_with_its_row(
    form: str,
    column: str,
    value: object,
    message: str,
    table: pd.DataFrame,
    weighted: FeatureDeclaration,
    tmp_path: Path,
) -> None:
    cells = table[column].astype(object)
    cells[6] = value
    as_text = isinstance(value, str) or column == "granted"
    cells = cells.map(lambda cell: cell if cell is None else str(cell) if as_text else float(cell))
    (problem,) = problems(table.assign(**{column: cells}), weighted, tmp_path, form=form)
    assert (problem.column, problem.rows) == (column, (7,))
    assert message in str(problem)


def test_a_wrong_date_is_reported_with_the_format_that_would_read_it(
    table: pd.DataFrame, weighted: FeatureDeclaration, tmp_path: Path
) -> None:
    german = table.assign(granted=pd.to_datetime(table["granted"]).dt.strftime("%d.%m.%Y"))
    (problem,) = problems(german, weighted, tmp_path)
    assert 'dates are read as ISO 8601; another format needs "date_format" beside "date_column"' in str(problem)
    formatted = weighted.model_copy(update={"date_format": "%d.%m.%Y"})
    frame = validate(written_and_read(german, formatted, tmp_path), formatted, minimum_rows=100)
    assert frame["granted"].dt.strftime("%Y-%m-%d").tolist() == table["granted"].tolist()


def test_weights_that_are_all_0_are_refused(table: pd.DataFrame, weighted: FeatureDeclaration, tmp_path: Path) -> None:
    (problem,) = problems(table.assign(copies=0), weighted, tmp_path)
    assert str(problem) == "column copies: every weight is 0, so there is nothing to learn"


def test_rows_of_weight_0_are_no_rows(table: pd.DataFrame, weighted: FeatureDeclaration, tmp_path: Path) -> None:
    few = table.assign(copies=np.where(table.index < 99, 1, 0))
    (problem,) = problems(few, weighted, tmp_path)
    assert str(problem) == "column copies: 99 rows with a weight above 0 are too few; at least 100 are required"


def test_a_declared_weight_or_date_that_the_data_lacks_is_reported(
    table: pd.DataFrame, weighted: FeatureDeclaration, tmp_path: Path
) -> None:
    found = problems(table.drop(columns=["copies", "granted"]), weighted, tmp_path)
    assert [(problem.column, problem.message) for problem in found] == [
        ("copies", "column is missing"),
        ("granted", "column is missing"),
    ]


def test_rows_with_an_open_outcome_need_no_weight(
    table: pd.DataFrame, weighted: FeatureDeclaration, tmp_path: Path
) -> None:
    target = weighted.target.model_copy(update={"ignored": ("open",)})
    outcome = table["loan_paid_back"].astype(object).where(table.index != 3, "open")
    copies = table["copies"].astype(object).where(table.index != 3, None)
    changed = weighted.model_copy(update={"target": target})
    frame = validate(
        written_and_read(table.assign(loan_paid_back=outcome, copies=copies), changed, tmp_path),
        changed,
        minimum_rows=100,
    )
    assert len(frame) == len(table) - 1
