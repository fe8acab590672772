"""Validate raw data against the feature declaration and report every problem at once, with row numbers."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from trainer.data.declaration import FeatureDeclaration, NumericFeature
from trainer.data.precision import NOISE_LIMIT, rounding_noise
from trainer.data.reading import RawTable
from trainer.errors import BadInputError

_ROWS_SHOWN = 10
_EXAMPLES_SHOWN = 5
_CHECK_MESSAGES = {"not_nullable": "missing value", "field_uniqueness": "duplicate value"}


@dataclass(frozen=True)
class Problem:
    """One kind of problem in one column.

    Attributes:
        column: The column, or None for the table as a whole.
        message: What is wrong and what is allowed.
        count: Number of affected rows; 0 if the problem is not about rows.
        rows: The first affected rows, counted from 1 below the header.
        examples: Some of the offending values.
    """

    column: str | None
    message: str
    count: int = 0
    rows: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"column {self.column}: " if self.column else ""
        if not self.count:
            return f"{where}{self.message}"
        more = ", ..." if self.count > len(self.rows) else ""
        values = f" (such as {', '.join(self.examples)})" if self.examples else ""
        rows = ", ".join(str(row) for row in self.rows)
        return f"{where}{self.message}{values}: {self.count} rows: {rows}{more}"


class InvalidDataError(BadInputError):
    """The data does not match the declaration; `problems` lists everything that is wrong."""

    def __init__(self, source: str, row_count: int, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.row_count = row_count
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(
            f"{source}: {len(problems)} problems in {row_count} rows (row 1 is the first below the header)\n{lines}"
        )

    def to_json(self) -> str:
        """Return the report as JSON, for machines."""
        return json.dumps(
            {
                "source": self.source,
                "rows": self.row_count,
                "problems": [asdict(problem) for problem in self.problems],
            }
        )


def validate(table: RawTable, declaration: FeatureDeclaration, *, minimum_rows: int) -> pd.DataFrame:
    """Validate the table and return it in one form for all sources.

    Returns:
        Numeric features as float64, missing values as NaN (also those that a declaration's `missing_values` name), and
        the target as 1 (default) or 0 (repaid).

    Raises:
        InvalidDataError: The data does not match the declaration; the error lists every problem.
    """
    frame = table.frame.reset_index(drop=True)
    problems: list[Problem] = []
    required = [*declaration.names, declaration.target.column]
    problems += [Problem(name, "column is missing") for name in required if name not in frame.columns]
    if len(frame) < minimum_rows:
        problems.append(Problem(None, f"{len(frame)} rows are too few; at least {minimum_rows} are required"))
    frame, type_problems = _with_numbers(frame, declaration)
    frame = _without_missing_values(frame, declaration)
    problems += type_problems
    problems += _unlearnable(frame, declaration)
    problems += _schema_problems(frame, declaration)
    if declaration.target.column in frame.columns:
        frame, target_problems = _with_target(frame, declaration)
        problems += target_problems
    if problems:
        raise InvalidDataError(table.source, len(frame), tuple(problems))
    return frame


def _with_numbers(frame: pd.DataFrame, declaration: FeatureDeclaration) -> tuple[pd.DataFrame, list[Problem]]:
    converted: dict[str, pd.Series] = {}
    problems = []
    for feature in declaration.numeric:
        if feature.name not in frame.columns:
            continue
        raw = frame[feature.name]
        numbers = pd.to_numeric(raw, errors="coerce").astype(np.float64)
        wrong = raw[numbers.isna() & raw.notna()]
        wrong = wrong[wrong.astype(str).str.lower() != "nan"]
        if len(wrong):
            problems.append(_problem(feature.name, "not a number", wrong))
            # Already reported: a placeholder within the range keeps later checks from reporting the same cells again.
            numbers[wrong.index] = feature.minimum
        converted[feature.name] = numbers
    return frame.assign(**converted), problems


def _without_missing_values(frame: pd.DataFrame, declaration: FeatureDeclaration) -> pd.DataFrame:
    """Return the table without the values that mean missing: they become NaN, or None."""
    return frame.assign(
        **{
            feature.name: frame[feature.name].mask(frame[feature.name].isin(feature.missing_values))
            for feature in declaration.features
            if feature.missing_values and feature.name in frame.columns
        }
    )


def _unlearnable(frame: pd.DataFrame, declaration: FeatureDeclaration) -> Iterator[Problem]:
    """Find features without any value, and numbers that float32 cannot tell apart."""
    for feature in declaration.features:
        values = frame[feature.name].dropna() if feature.name in frame.columns else None
        if values is not None and len(frame) and values.empty:
            yield Problem(feature.name, "no row has a value, so there is nothing to learn; remove it")
        elif values is not None and isinstance(feature, NumericFeature):
            values = values[values.between(feature.minimum, feature.maximum)]
            if (noise := rounding_noise(values.to_numpy(dtype=np.float64))) > NOISE_LIMIT:
                yield Problem(
                    feature.name,
                    f"the model reads float32, and rounding to it blurs {min(noise, 1):.1%} of the standard deviation "
                    f"{values.std():.3g} of values around {values.mean():.6g} (at most {NOISE_LIMIT:.1%}). Subtract a "
                    "constant, or give a date as an age in days or months",
                )


def _schema(frame: pd.DataFrame, declaration: FeatureDeclaration) -> pa.DataFrameSchema:
    columns: dict[str, pa.Column] = {}
    for feature in declaration.features:
        if isinstance(feature, NumericFeature):
            allowed = f"outside {feature.minimum:g} to {feature.maximum:g} {feature.unit}"
            checks = [pa.Check.in_range(feature.minimum, feature.maximum, error=allowed)]
        else:
            allowed = f"unknown category; allowed: {', '.join(feature.categories)}"
            checks = [] if feature.other else [pa.Check.isin(feature.categories, error=allowed)]
        columns[feature.name] = pa.Column(None, checks, nullable=feature.missing != "refused", required=False)
    if declaration.id_column:
        columns[declaration.id_column] = pa.Column(None, nullable=False, unique=True, required=False)
    return pa.DataFrameSchema({name: column for name, column in columns.items() if name in frame.columns})


def _schema_problems(frame: pd.DataFrame, declaration: FeatureDeclaration) -> Iterator[Problem]:
    try:
        _schema(frame, declaration).validate(frame, lazy=True)
    except SchemaErrors as errors:
        for (column, check), cases in errors.failure_cases.groupby(["column", "check"], sort=False):
            values = cases.set_index("index")["failure_case"]
            yield _problem(str(column), _CHECK_MESSAGES.get(str(check), str(check)), values)


def _with_target(frame: pd.DataFrame, declaration: FeatureDeclaration) -> tuple[pd.DataFrame, list[Problem]]:
    target = declaration.target
    raw = frame[target.column]
    defaulted = _equals(raw, target.default)
    repaid = _equals(raw, target.repaid)
    problems = []
    if (wrong := ~(defaulted | repaid)).any():
        allowed = f"neither {target.default} (default) nor {target.repaid} (repaid)"
        problems.append(_problem(target.column, allowed, raw[wrong]))
    elif len(frame) and defaulted.all():
        problems.append(Problem(target.column, "constant: every loan defaulted, so there is nothing to learn"))
    elif len(frame) and repaid.all():
        problems.append(Problem(target.column, "constant: every loan was repaid, so there is nothing to learn"))
    return frame.assign(**{target.column: defaulted.astype(np.int64)}), problems


def _equals(column: pd.Series, value: str | int) -> pd.Series:
    if isinstance(value, int):
        return pd.to_numeric(column, errors="coerce") == value
    return column.astype(str) == value


def _problem(column: str, message: str, values: pd.Series) -> Problem:
    """Describe the invalid cells; the index of `values` holds zero-based row positions."""
    ordered = values.sort_index()
    present = ordered.dropna()
    return Problem(
        column,
        message,
        count=len(ordered),
        rows=tuple(int(row) + 1 for row in ordered.index[:_ROWS_SHOWN]),
        examples=tuple(str(value) for value in present.unique()[:_EXAMPLES_SHOWN]),
    )
