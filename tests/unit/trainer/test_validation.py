import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from trainer.data.declaration import FeatureDeclaration
from trainer.data.problems import InvalidDataError, Problem
from trainer.data.reading import RawTable, read_table
from trainer.data.validation import validate
from trainer.errors import BadInputError


def written_and_read(
    frame: pd.DataFrame, declaration: FeatureDeclaration, folder: Path, *, form: str = "csv"
) -> RawTable:
    path = folder / f"loans.{form}"
    frame.to_parquet(path) if form == "parquet" else frame.to_csv(path, index=False)
    return read_table(str(path), declaration, scratch=folder, synthetic_rows=0, seed=0)


def problems_of(
    frame: pd.DataFrame, declaration: FeatureDeclaration, folder: Path, *, form: str = "csv"
) -> tuple[Problem, ...]:
    table = written_and_read(frame, declaration, folder, form=form)
    with pytest.raises(InvalidDataError) as caught:
        validate(table, declaration, minimum_rows=100)
    return caught.value.problems


def test_valid_data_has_default_as_its_target(
    loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    table = written_and_read(loans, declaration, tmp_path)
    checked = validate(table, declaration, minimum_rows=100)
    assert (checked["loan_paid_back"] == 1 - loans["loan_paid_back"]).all()


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_every_format_gives_the_same_rows(
    form: str, loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    table = written_and_read(loans, declaration, tmp_path, form=form)
    checked = validate(table, declaration, minimum_rows=100)
    assert checked["annual_income"].tolist() == loans["annual_income"].tolist()
    assert checked["grade_subgrade"].tolist() == loans["grade_subgrade"].tolist()


def test_undeclared_columns_are_skipped_and_named(
    loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    table = written_and_read(loans.assign(shoe_size=42), declaration, tmp_path)
    assert table.undeclared == ("shoe_size",)


def test_all_problems_are_reported_at_once_with_rows_and_counts(
    loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    broken = loans.astype({"annual_income": object}).drop(columns="gender")
    broken.loc[2, "annual_income"] = "lots"
    broken.loc[4, "credit_score"] = 9_000
    broken.loc[5, "interest_rate"] = None
    broken.loc[[6, 7], "loan_purpose"] = "Yacht"
    broken["id"] = broken["id"].replace(9, 8)
    broken.loc[10, "loan_paid_back"] = 7
    found = {problem.column: problem for problem in problems_of(broken, declaration, tmp_path)}
    assert found["gender"].message == "column is missing"
    assert (found["annual_income"].rows, found["annual_income"].examples) == ((3,), ("lots",))
    assert "300 to 850" in found["credit_score"].message
    assert found["credit_score"].rows == (5,)
    assert (found["interest_rate"].message, found["interest_rate"].rows) == ("missing value", (6,))
    assert (found["loan_purpose"].rows, found["loan_purpose"].count) == ((7, 8), 2)
    assert "Debt consolidation" in found["loan_purpose"].message
    assert found["id"].rows == (9, 10)
    assert found["loan_paid_back"].rows == (11,)
    assert len(found) == 7


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("gender", None, "missing value"),
        ("gender", "female", "unknown category; allowed: Female, Male, Other (such as female)"),
        ("gender", " Female", "unknown category"),
        ("annual_income", None, "missing value"),
        ("annual_income", float("nan"), "missing value"),
        ("annual_income", "12,000", "not a number (such as 12,000)"),
        ("annual_income", -1, "outside 0 to 1e+07 USD/year (such as -1"),
        ("id", None, "missing value"),
        ("loan_paid_back", None, "neither 0 (default) nor 1 (repaid)"),
        ("loan_paid_back", "yes", "neither 0 (default) nor 1 (repaid) (such as yes)"),
        ("loan_paid_back", 0.5, "neither 0 (default) nor 1 (repaid) (such as 0.5)"),
    ],
)
def test_each_kind_of_invalid_cell_is_reported_with_its_row(
    form: str,
    column: str,
    value: object,
    message: str,
    loans: pd.DataFrame,
    declaration: FeatureDeclaration,
    tmp_path: Path,
) -> None:
    cells = loans[column].astype(object)
    cells[6] = value
    # A Parquet column has a single type.
    cells = cells.map(lambda cell: cell if cell is None else str(cell)) if isinstance(value, str) else cells
    (problem,) = problems_of(loans.assign(**{column: cells}), declaration, tmp_path, form=form)
    assert (problem.column, problem.count, problem.rows) == (column, 1, (7,))
    assert message in str(problem)


@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_target_is_refused(
    value: int, loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    (problem,) = problems_of(loans.assign(loan_paid_back=value), declaration, tmp_path)
    assert problem.column == "loan_paid_back"
    assert "constant" in problem.message


def test_too_few_rows_are_refused(loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path) -> None:
    (problem,) = problems_of(loans.head(99), declaration, tmp_path)
    assert "99 rows are too few" in problem.message


def test_an_infinite_number_is_out_of_range(
    loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    broken = loans.copy()
    broken.loc[0, "annual_income"] = float("inf")
    (problem,) = problems_of(broken, declaration, tmp_path)
    assert (problem.column, problem.rows) == ("annual_income", (1,))


def test_the_report_is_also_json(loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path) -> None:
    table = written_and_read(loans.drop(columns="gender"), declaration, tmp_path)
    with pytest.raises(InvalidDataError) as caught:
        validate(table, declaration, minimum_rows=100)
    assert json.loads(caught.value.to_json())["problems"][0]["column"] == "gender"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff\xfe\x00", b"PAR1junk", gzip.compress(b"a,b\n1,2")[:15]],
    ids=["empty", "binary", "a truncated Parquet file", "a truncated gzip file"],
)
def test_a_file_that_is_not_a_table_is_refused(content: bytes, declaration: FeatureDeclaration, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="neither a CSV"):
        read_table(str(path), declaration, scratch=tmp_path, synthetic_rows=0, seed=0)


def test_a_missing_file_is_refused(declaration: FeatureDeclaration, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        read_table(str(tmp_path / "none.csv"), declaration, scratch=tmp_path, synthetic_rows=0, seed=0)
