"""Validate raw data against the feature declaration and report every problem at once, with row numbers."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from trainer.data import cells, columns
from trainer.data.declaration import FeatureDeclaration, NumericFeature, Parse
from trainer.data.layout import near_name
from trainer.data.precision import NOISE_LIMIT, rounding_noise
from trainer.data.problems import InvalidDataError, Problem, in_rows
from trainer.data.reading import RawTable
from trainer.data.row_columns import with_row_columns

logger = logging.getLogger(__name__)

_CHECK_MESSAGES = {"not_nullable": "missing value", "field_uniqueness": "duplicate value"}
_TEXTS_LOOKED_AT = 1_000


def validate(table: RawTable, declaration: FeatureDeclaration, *, minimum_rows: int) -> pd.DataFrame:
    """Validate the table and return it in one form for all sources.

    Returns:
        Numeric features as float64, missing values as NaN (also those that a declaration's `missing_values` name), and
        the target as 1 (default) or 0 (repaid). Weights are float64 with a mean of 1, dates datetime64.

    Rows whose outcome is open (see `Target.ignored`) are dropped, and counted in the log.

    Raises:
        InvalidDataError: The data does not match the declaration; the error lists every problem.
    """
    frame = table.frame.reset_index(drop=True)
    all_rows = len(frame)
    problems = list(_missing_columns(table, declaration))
    target_problems: list[Problem] = []
    if declaration.target.column in frame.columns:
        frame, target_problems = _with_target(frame, declaration, table.source)
    if len(frame) < minimum_rows:
        problems.append(Problem(None, f"{len(frame)} rows are too few; at least {minimum_rows} are required"))
    frame, type_problems = _with_numbers(frame, declaration)
    frame = _without_missing_values(_with_categories(frame, declaration), declaration)
    frame, row_problems = with_row_columns(frame, declaration, minimum_rows=minimum_rows)
    problems += [
        *type_problems,
        *row_problems,
        *_unlearnable(frame, declaration),
        *_schema_problems(frame, declaration),
        *target_problems,
    ]
    if problems:
        raise InvalidDataError(table.source, all_rows, tuple(problems))
    return frame if len(frame) == all_rows else frame.reset_index(drop=True)


def _missing_columns(table: RawTable, declaration: FeatureDeclaration) -> Iterator[Problem]:
    for name in declaration.columns:
        if name in table.frame.columns or name == declaration.id_column:
            continue
        found, hint = near_name(name, table.undeclared), ""
        if found is not None:
            spaces = found.strip() == name
            way_out = 'declare "file": {"trim": true}' if spaces else "rename the column, or the declared one"
            hint = f"the data has {found!r}: {way_out}"
        yield Problem(name, "column is missing", hint=hint)


def _with_target(
    frame: pd.DataFrame, declaration: FeatureDeclaration, source: str
) -> tuple[pd.DataFrame, list[Problem]]:
    target, column = declaration.target, declaration.target.column
    raw = frame[column]
    texts, codes = columns.distinct(raw)
    labels = [cells.label_of(text, target.labels, trim=declaration.file.trim) for text in texts]
    outcomes = {
        **dict.fromkeys(target.default, 1),
        **dict.fromkeys(target.repaid, 0),
        **dict.fromkeys(target.ignored, -1),
    }
    # The last outcome is that of rows without a label, whose code is -1.
    outcome = np.array([*(outcomes.get(label, -2) for label in labels), -2], dtype=np.int64)[codes]
    if (ignored := outcome == -1).any():
        kinds = raw[ignored].value_counts()
        counts = ", ".join(f"{label} {count}" for label, count in kinds.items() if count)
        logger.info("%s: dropped %d of %d rows with an open outcome: %s", source, ignored.sum(), len(frame), counts)
        frame, raw, outcome = frame[~ignored], raw[~ignored], outcome[~ignored]
    problems = []
    if (wrong := outcome < 0).any():
        allowed = f"neither {' or '.join(target.default)} (default) nor {' or '.join(target.repaid)} (repaid)"
        labeled = raw[wrong].notna().any() and not target.ignored
        hint = (
            'list the labels of loans whose outcome is open under "ignored" in the declared target' if labeled else ""
        )
        problems.append(in_rows(column, allowed, raw[wrong], hint=hint))
    elif len(frame) and outcome.all():
        problems.append(Problem(column, "constant: every loan defaulted, so there is nothing to learn"))
    elif len(frame) and not outcome.any():
        problems.append(Problem(column, "constant: every loan was repaid, so there is nothing to learn"))
    return frame.assign(**{column: (outcome == 1).astype(np.int64)}), problems


def _with_numbers(frame: pd.DataFrame, declaration: FeatureDeclaration) -> tuple[pd.DataFrame, list[Problem]]:
    converted: dict[str, pd.Series] = {}
    problems = []
    for feature in declaration.numeric:
        if feature.name not in frame.columns or feature.reference_column not in {None, *frame.columns}:
            continue
        raw = frame[feature.name]
        dated = feature.parse is Parse.DATE
        decimal = declaration.file.decimal
        values = _ages(frame, feature) if dated else columns.numbers(raw, feature.parse, decimal=decimal)
        numbers = pd.Series(values, index=frame.index)
        wrong = raw[numbers.isna() & raw.notna()]
        if not pd.api.types.is_numeric_dtype(raw):
            wrong = wrong[wrong.astype(str).str.lower() != "nan"]
        if len(wrong):
            what = "no date" if dated else "not a number"
            problems.append(in_rows(feature.name, what, wrong, hint=_way_out(feature, wrong, declaration)))
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


def _ages(frame: pd.DataFrame, feature: NumericFeature) -> npt.NDArray[np.float64]:
    born = columns.dates(frame[feature.name], feature.date_format)
    if feature.reference_column:
        return cells.completed_months(born, columns.dates(frame[feature.reference_column], feature.date_format))
    return cells.completed_months(born, pd.Series(pd.Timestamp(feature.reference_date), index=frame.index))


def _way_out(feature: NumericFeature, wrong: pd.Series, declaration: FeatureDeclaration) -> str:
    texts = [str(text) for text in wrong.dropna().unique()[:_TEXTS_LOOKED_AT]]
    if feature.parse is Parse.DATE:
        column = f" in it or in {feature.reference_column}" if feature.reference_column else ""
        form = feature.date_format or "ISO 8601"
        return f'dates{column} are read as {form}; another format needs "date_format", such as "%d.%m.%Y" or "%b-%Y"'
    if feature.parse is not None:
        return f'it is read by "parse": "{feature.parse}"'
    parse, comma = cells.parse_that_reads(texts), cells.numbers(texts, None, decimal=",")
    way_out = []
    if parse is Parse.DATE:
        way_out.append('declare "parse": "date" with a "reference_date" for its age in months')
    elif parse:
        way_out.append(f'declare "parse": "{parse}" for it')
    if declaration.file.decimal == "." and not np.isnan(comma).any():
        way_out.append('if its comma is a decimal comma, declare "file": {"decimal": ","}')
    return ", or ".join(way_out)


def _with_categories(frame: pd.DataFrame, declaration: FeatureDeclaration) -> pd.DataFrame:
    trim = declaration.file.trim

    def matched(name: str, categories: Sequence[str]) -> pd.Series:
        allowed = frozenset(categories)
        return _renamed(frame[name], lambda text: cells.category_of(text, allowed, trim=trim))

    present = (feature for feature in declaration.categorical if feature.name in frame.columns)
    return frame.assign(
        **{feature.name: matched(feature.name, (*feature.categories, *feature.missing_values)) for feature in present}
    )


def _renamed(raw: pd.Series, rename: Callable[[str], str]) -> pd.Series:
    """Return a column of text with each distinct text replaced, as a Categorical."""
    texts, codes = columns.distinct(raw)
    names = [rename(text) for text in texts]
    if names == texts and isinstance(raw.dtype, pd.CategoricalDtype):
        return raw
    position = {name: index for index, name in enumerate(dict.fromkeys(names))}
    renamed = np.array([*(position[name] for name in names), -1], dtype=np.int64)[codes]
    return pd.Series(pd.Categorical.from_codes(renamed, pd.Index(list(position), dtype=object)), index=raw.index)


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
    categories = {feature.name: feature.categories for feature in declaration.categorical}
    try:
        _schema(frame, declaration).validate(frame, lazy=True)
    except SchemaErrors as errors:
        for (column, check), cases in errors.failure_cases.groupby(["column", "check"], sort=False):
            values = cases.set_index("index")["failure_case"]
            hint = _near_categories(values, categories.get(str(column), ()))
            yield in_rows(str(column), _CHECK_MESSAGES.get(str(check), str(check)), values, hint=hint)


def _near_categories(values: pd.Series, categories: Sequence[str]) -> str:
    unknown = [str(value) for value in values.dropna().unique()[:_TEXTS_LOOKED_AT]]
    if unknown and all(text.strip() in categories for text in unknown):
        return 'they differ only by spaces: declare "file": {"trim": true}'
    near = next(((text, found) for text in unknown if (found := near_name(text, categories))), None)
    return f"is {near[0]} meant to be {near[1]}?" if near else ""
