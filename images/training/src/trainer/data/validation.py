"""Validate raw data against the feature declaration and report every problem at once, with row numbers."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from trainer.data import cells
from trainer.data.declaration import FeatureDeclaration, NumericFeature, Parse
from trainer.data.layout import near_name
from trainer.data.problems import InvalidDataError, Problem, in_rows
from trainer.data.reading import RawTable

logger = logging.getLogger(__name__)

_CHECK_MESSAGES = {"not_nullable": "missing value", "field_uniqueness": "duplicate value"}
_TEXTS_LOOKED_AT = 1_000


def validate(table: RawTable, declaration: FeatureDeclaration, *, minimum_rows: int) -> pd.DataFrame:
    """Validate the table and return it with numeric features as float64 and the target as 1 (default) or 0 (repaid).

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
    frame = _with_categories(frame, declaration)
    problems += [*type_problems, *_schema_problems(frame, declaration), *target_problems]
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
    texts, codes = _distinct(raw)
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
        values = _ages(frame, feature) if feature.parse is Parse.DATE else _numbers(raw, feature, declaration)
        numbers = pd.Series(values, index=frame.index)
        wrong = raw[numbers.isna() & raw.notna()]
        if not pd.api.types.is_numeric_dtype(raw):
            wrong = wrong[wrong.astype(str).str.lower() != "nan"]
        if len(wrong):
            what = "no date" if feature.parse is Parse.DATE else "not a number"
            problems.append(in_rows(feature.name, what, wrong, hint=_way_out(feature, wrong, declaration)))
            # Already reported: a placeholder within the range keeps later checks from reporting the same cells again.
            numbers[wrong.index] = feature.minimum
        converted[feature.name] = numbers
    return frame.assign(**converted), problems


def _numbers(raw: pd.Series, feature: NumericFeature, declaration: FeatureDeclaration) -> npt.NDArray[np.float64]:
    if pd.api.types.is_numeric_dtype(raw) and not isinstance(raw.dtype, pd.CategoricalDtype):
        return raw.to_numpy(dtype=np.float64, na_value=np.nan)
    texts, codes = _distinct(raw)
    return np.append(cells.numbers(texts, feature.parse, decimal=declaration.file.decimal), np.nan)[codes]


def _ages(frame: pd.DataFrame, feature: NumericFeature) -> npt.NDArray[np.float64]:
    born = _dates(frame[feature.name], feature.date_format)
    if feature.reference_column:
        return cells.completed_months(born, _dates(frame[feature.reference_column], feature.date_format))
    return cells.completed_months(born, pd.Series(pd.Timestamp(feature.reference_date), index=frame.index))


def _dates(raw: pd.Series, form: str) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(raw):
        return pd.Series(raw.dt.tz_localize(None))
    texts, codes = _distinct(raw)
    known = cells.dates([*texts, ""], form)
    return pd.Series(known.array[codes], index=raw.index)


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
    return frame.assign(**{feature.name: matched(feature.name, feature.categories) for feature in present})


def _distinct(raw: pd.Series) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return a column's distinct texts, and for each row the position of its text; -1 for missing."""
    categorical = raw.array if isinstance(raw.array, pd.Categorical) else pd.Categorical(raw)
    return [str(text) for text in categorical.categories], np.asarray(categorical.codes, dtype=np.int64)


def _renamed(raw: pd.Series, rename: Callable[[str], str]) -> pd.Series:
    """Return a column of text with each distinct text replaced, as a Categorical."""
    texts, codes = _distinct(raw)
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
            check = pa.Check.in_range(feature.minimum, feature.maximum, error=allowed)
        else:
            allowed = f"unknown category; allowed: {', '.join(feature.categories)}"
            check = pa.Check.isin(feature.categories, error=allowed)
        columns[feature.name] = pa.Column(None, check, nullable=False, required=False)
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
