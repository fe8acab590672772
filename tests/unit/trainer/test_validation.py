import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainer.data.declaration import FeatureDeclaration
from trainer.data.problems import InvalidDataError, Problem
from trainer.data.reading import read_table
from trainer.data.validation import validate
from trainer.errors import BadInputError
from unit.trainer.written_tables import problems, written_and_read


def declared(declaration: FeatureDeclaration, **changes: Mapping[str, object]) -> FeatureDeclaration:
    """Return the declaration with changed features."""
    features = [{**item.model_dump(), **changes.get(item.name, {})} for item in declaration.features]
    return FeatureDeclaration.model_validate({**declaration.model_dump(), "features": features})


def problems_of(
    frame: pd.DataFrame, declaration: FeatureDeclaration, folder: Path, *, form: str = "csv"
) -> tuple[Problem, ...]:
    """Return what is wrong where nothing may be missing."""
    declaration = declared(declaration, **{name: {"missing": "refused"} for name in declaration.names})
    return problems(frame, declaration, folder, form=form)


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


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_missing_values_are_taken_unless_they_are_refused(
    form: str, loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    loans = loans.astype({"credit_score": float})
    loans.loc[[1, 2], "credit_score"] = [float("nan"), 9999]
    loans.loc[[3, 4], "gender"] = [None, "n/a"]
    lenient = declared(
        declaration, credit_score={"missing_values": [9999]}, gender={"missing_values": ["n/a"], "missing": "allowed"}
    )
    checked = validate(written_and_read(loans, lenient, tmp_path, form=form), lenient, minimum_rows=100)
    assert checked.index[checked["credit_score"].isna()].tolist() == [1, 2]
    assert checked.index[checked["gender"].isna()].tolist() == [3, 4]
    assert checked["credit_score"].dtype == "float64"


def test_other_categories_are_taken_where_they_are_declared(
    loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    loans.loc[[6, 7], "loan_purpose"] = "Yacht"
    lenient = declared(declaration, loan_purpose={"other": True})
    checked = validate(written_and_read(loans, lenient, tmp_path), lenient, minimum_rows=100)
    assert (checked["loan_purpose"] == "Yacht").sum() == 2


def test_a_feature_without_any_value_is_refused(
    loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    table = written_and_read(loans.assign(credit_score=None), declaration, tmp_path)
    with pytest.raises(InvalidDataError, match="credit_score: no row has a value"):
        validate(table, declaration, minimum_rows=100)


@pytest.mark.parametrize(
    ("low", "high", "refused"),
    [
        (20_240_101, 20_240_160, True),
        (20_200_101, 20_241_231, False),
        (10**15, 10**15 + 1_000, True),
        (1_600_000_000, 1_700_000_000, False),
        (0, 1e-30, False),
        (10**15, 10**15, False),
    ],
    ids=["dates of two months", "dates of years", "large integers", "seconds since 1970", "tiny numbers", "a constant"],
)
def test_numbers_that_float32_cannot_tell_apart_are_refused_with_the_way_out(
    low: float, high: float, *, refused: bool, loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    wide = declared(declaration, credit_score={"minimum": -1e16, "maximum": 1e16})
    numbers = np.random.default_rng(0).uniform(low, high, len(loans))
    table = written_and_read(loans.assign(credit_score=numbers.round() if high > 1 else numbers), wide, tmp_path)
    if not refused:
        validate(table, wide, minimum_rows=100)
        return
    with pytest.raises(InvalidDataError, match=r"credit_score: the model reads float32.*Subtract a constant") as caught:
        validate(table, wide, minimum_rows=100)
    assert len(caught.value.problems) == 1
