"""Validate raw data against the feature declaration and report every problem at once, with row numbers."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from trainer.data import cells, columns
from trainer.data.declaration import FeatureDeclaration, NumericFeature, Parse
from trainer.data.findings import Cells, Findings, Repeated, repeated
from trainer.data.layout import near_name
from trainer.data.precision import NOISE_LIMIT, Rounding
from trainer.data.problems import InvalidDataError, Problem
from trainer.data.reading import RawTable
from trainer.data.row_columns import RowColumns, with_mean_weight_1

logger = logging.getLogger(__name__)

_CHECK_MESSAGES = {"not_nullable": "missing value"}
_TOO_FEW = "{} rows are too few; at least {} are required"


def validate(table: RawTable, declaration: FeatureDeclaration, *, minimum_rows: int) -> pd.DataFrame:
    """Validate the table and return it in one form for all sources.

    Returns:
        Numeric features as float64, missing values as NaN (also those that a declaration's `missing_values` name), and
        the target as 1 (default) or 0 (repaid). Weights are float64 with a mean of 1, dates datetime64.

    Rows whose outcome is open (see `Target.ignored`) are dropped, and counted in the log.

    Raises:
        InvalidDataError: The data does not match the declaration; the error lists every problem.
    """
    raw = table.frame.reset_index(drop=True)
    validation = Validation(table.source, declaration)
    frame = validation.check(raw)
    validation.require(table.undeclared, lambda: [raw[declaration.id_column]], minimum_rows=minimum_rows)
    return with_mean_weight_1(frame.reset_index(drop=True), declaration)


class Validation:
    """Validates a table part by part, so that it need not be in memory."""

    def __init__(self, source: str, declaration: FeatureDeclaration) -> None:
        self._source, self._declaration = source, declaration
        self._present: set[str] = set()
        self._all_rows = self._rows = self._defaults = 0
        self._open_outcomes: Counter[str] = Counter()
        self._labels, self._numbers, self._schema_cells = Findings(), Findings(), Findings()
        self._row_columns = RowColumns(declaration)
        self._booleans = {feature.name: _Booleans() for feature in declaration.numeric}
        self._known = Counter[str]()
        self._rounding = {feature.name: Rounding() for feature in declaration.numeric}
        self._ids = Repeated()

    def check(self, raw: pd.DataFrame) -> pd.DataFrame:
        """Return the next part in the form of `validate`, but with weights as they are; nothing is raised yet.

        Args:
            raw: The part as read; its index holds the zero-based positions of its rows in the whole table, which the
                result keeps.
        """
        declaration = self._declaration
        self._present.update(raw.columns)
        self._all_rows += len(raw)
        frame = self._with_target(raw) if declaration.target.column in raw.columns else raw
        self._rows += len(frame)
        frame = self._with_numbers(frame)
        frame = _without_missing_values(_with_categories(frame, declaration), declaration)
        frame = self._row_columns.read(frame)
        self._note_values(frame)
        self._check_schema(frame)
        if declaration.id_column and declaration.id_column in frame.columns:
            self._ids.add(frame[declaration.id_column])
        return frame

    def require(self, undeclared: Sequence[str], ids: Callable[[], Iterable[pd.Series]], *, minimum_rows: int) -> None:
        """Require that everything that was checked is valid.

        Args:
            undeclared: The names of the columns that the declaration does not use.
            ids: Returns the parts of the id column once more; called only if values seem to be repeated.
            minimum_rows: How many rows there must be.

        Raises:
            InvalidDataError: The error lists every problem.
        """
        if self._open_outcomes:
            counts = ", ".join(f"{label} {count}" for label, count in self._open_outcomes.most_common())
            dropped = self._open_outcomes.total()
            logger.info(
                "%s: dropped %d of %d rows with an open outcome: %s", self._source, dropped, self._all_rows, counts
            )
        self._find_repeated_ids(ids)
        problems = [
            *self._missing_columns(undeclared),
            *([Problem(None, _TOO_FEW.format(self._rows, minimum_rows))] if self._rows < minimum_rows else []),
            *self._problems_of_numbers(),
            *self._row_columns.problems(minimum_rows=minimum_rows),
            *self._unlearnable(),
            *self._problems_of_the_schema(),
            *self._problems_of_labels(),
        ]
        if problems:
            raise InvalidDataError(self._source, self._all_rows, tuple(problems))

    def _missing_columns(self, undeclared: Sequence[str]) -> Iterator[Problem]:
        for name in self._declaration.columns:
            if name in self._present or name == self._declaration.id_column:
                continue
            found, hint = near_name(name, undeclared), ""
            if found is not None:
                spaces = found.strip() == name
                way_out = 'declare "file": {"trim": true}' if spaces else "rename the column, or the declared one"
                hint = f"the data has {found!r}: {way_out}"
            yield Problem(name, "column is missing", hint=hint)

    def _with_target(self, frame: pd.DataFrame) -> pd.DataFrame:
        target, column = self._declaration.target, self._declaration.target.column
        raw = frame[column]
        texts, codes = columns.distinct(raw)
        labels = [cells.label_of(text, target.labels, trim=self._declaration.file.trim) for text in texts]
        outcomes = {
            **dict.fromkeys(target.default, 1),
            **dict.fromkeys(target.repaid, 0),
            **dict.fromkeys(target.ignored, -1),
        }
        # The last outcome is that of rows without a label, whose code is -1.
        outcome = np.array([*(outcomes.get(label, -2) for label in labels), -2], dtype=np.int64)[codes]
        if (ignored := outcome == -1).any():
            kinds = raw[ignored].value_counts()
            self._open_outcomes.update({str(label): int(count) for label, count in kinds.items() if count})
            frame, raw, outcome = frame[~ignored], raw[~ignored], outcome[~ignored]
        allowed = f"neither {' or '.join(target.default)} (default) nor {' or '.join(target.repaid)} (repaid)"
        self._labels.add(column, allowed, raw[outcome < 0])
        self._defaults += int((outcome == 1).sum())
        return frame.assign(**{column: (outcome == 1).astype(np.int64)})

    def _problems_of_labels(self) -> list[Problem]:
        target = self._declaration.target
        way_out = 'list the labels of loans whose outcome is open under "ignored" in the declared target'
        if self._labels.cells:
            return self._labels.problems(
                [target.column], lambda _column, _message, texts: way_out if texts and not target.ignored else ""
            )
        if target.column in self._present and self._rows and self._defaults in {0, self._rows}:
            became = "defaulted" if self._defaults else "was repaid"
            return [Problem(target.column, f"constant: every loan {became}, so there is nothing to learn")]
        return []

    def _with_numbers(self, frame: pd.DataFrame) -> pd.DataFrame:
        converted: dict[str, pd.Series] = {}
        for feature in self._declaration.numeric:
            if feature.name not in frame.columns or feature.reference_column not in {None, *frame.columns}:
                continue
            raw, dated = frame[feature.name], feature.parse is Parse.DATE
            decimal = self._declaration.file.decimal
            values = _ages(frame, feature) if dated else columns.numbers(raw, feature.parse, decimal=decimal)
            numbers = pd.Series(values, index=frame.index)
            wrong = raw[numbers.isna() & raw.notna()]
            if not pd.api.types.is_numeric_dtype(raw):
                wrong = wrong[wrong.astype(str).str.lower() != "nan"]
                if feature.parse is None:
                    self._booleans[feature.name].note(raw, decimal)
            self._numbers.add(feature.name, _no_number(feature), wrong)
            # Already reported: a placeholder within the range keeps later checks from reporting the same cells again.
            numbers[wrong.index] = feature.minimum
            converted[feature.name] = numbers
        return frame.assign(**converted)

    def _problems_of_numbers(self) -> list[Problem]:
        features = {feature.name: feature for feature in self._declaration.numeric}
        for name, found in self._booleans.items():
            if found.has_others and found.words.count:
                self._numbers.cells.setdefault((name, _no_number(features[name])), Cells()).merge(found.words)
        return self._numbers.problems(
            list(features), lambda name, _message, texts: _way_out(features[name], texts, self._declaration)
        )

    def _note_values(self, frame: pd.DataFrame) -> None:
        for feature in self._declaration.features:
            if feature.name not in frame.columns:
                continue
            values = frame[feature.name].dropna()
            self._known[feature.name] += len(values)
            if isinstance(feature, NumericFeature):
                inside = values[values.between(feature.minimum, feature.maximum)]
                self._rounding[feature.name].add(inside.to_numpy(dtype=np.float64))

    def _unlearnable(self) -> Iterator[Problem]:
        """Find features without any value, and numbers that float32 cannot tell apart."""
        for feature in self._declaration.features:
            if feature.name not in self._known:
                continue
            if self._rows and not self._known[feature.name]:
                yield Problem(feature.name, "no row has a value, so there is nothing to learn; remove it")
            elif isinstance(feature, NumericFeature):
                rounding = self._rounding[feature.name]
                if rounding.noise > NOISE_LIMIT:
                    yield Problem(
                        feature.name,
                        f"the model reads float32, and rounding to it blurs {min(rounding.noise, 1):.1%} of the "
                        f"standard deviation {rounding.deviation:.3g} of values around {rounding.mean:.6g} (at most "
                        f"{NOISE_LIMIT:.1%}). Subtract a constant, or give a date as an age in days or months",
                    )

    def _check_schema(self, frame: pd.DataFrame) -> None:
        try:
            _schema(frame, self._declaration).validate(frame, lazy=True)
        except SchemaErrors as errors:
            for (column, check), cases in errors.failure_cases.groupby(["column", "check"], sort=False):
                message = _CHECK_MESSAGES.get(str(check), str(check))
                self._schema_cells.add(str(column), message, cases.set_index("index")["failure_case"])

    def _find_repeated_ids(self, ids: Callable[[], Iterable[pd.Series]]) -> None:
        if self._declaration.id_column not in self._present or not (suspects := self._ids.suspects()):
            return
        # Two hashes may be equal by chance, so the values themselves decide.
        found = [repeated(part, suspects) for part in ids()]
        values = pd.concat([pd.Series(part, dtype=object) for part in found])
        self._schema_cells.add(
            str(self._declaration.id_column), "duplicate value", values[values.duplicated(keep=False)]
        )

    def _problems_of_the_schema(self) -> list[Problem]:
        categories = {feature.name: feature.categories for feature in self._declaration.categorical}
        return self._schema_cells.problems(
            [*self._declaration.names, *([self._declaration.id_column] if self._declaration.id_column else [])],
            lambda column, _message, texts: _near_categories(texts, categories.get(column, ())),
        )


class _Booleans:
    """Words such as "yes" in a numeric column: they are numbers if the column holds nothing but such words.

    Attributes:
        words: Words that no parser of numbers reads, in parts that hold nothing but booleans.
        has_others: Whether the column has texts that are no booleans.
    """

    def __init__(self) -> None:
        self.words, self.has_others = Cells(), False

    def note(self, raw: pd.Series, decimal: str) -> None:
        """Take up the next part of the column."""
        texts, codes = columns.distinct(raw)
        if cells.are_booleans(texts):
            no_numbers = np.array([*(np.isnan(cells.number(text, decimal)) for text in texts), False])[codes]
            self.words.add(raw[no_numbers])
        elif texts:
            self.has_others = True


def _no_number(feature: NumericFeature) -> str:
    return "no date" if feature.parse is Parse.DATE else "not a number"


def _without_missing_values(frame: pd.DataFrame, declaration: FeatureDeclaration) -> pd.DataFrame:
    """Return the table without the values that mean missing: they become NaN, or None."""
    return frame.assign(
        **{
            feature.name: frame[feature.name].mask(frame[feature.name].isin(feature.missing_values))
            for feature in declaration.features
            if feature.missing_values and feature.name in frame.columns
        }
    )


def _ages(frame: pd.DataFrame, feature: NumericFeature) -> npt.NDArray[np.float64]:
    born = columns.dates(frame[feature.name], feature.date_format)
    if feature.reference_column:
        return cells.completed_months(born, columns.dates(frame[feature.reference_column], feature.date_format))
    return cells.completed_months(born, pd.Series(pd.Timestamp(feature.reference_date), index=frame.index))


def _way_out(feature: NumericFeature, texts: list[str], declaration: FeatureDeclaration) -> str:
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
        columns[declaration.id_column] = pa.Column(None, nullable=False, required=False)
    return pa.DataFrameSchema({name: column for name, column in columns.items() if name in frame.columns})


def _near_categories(unknown: list[str], categories: Sequence[str]) -> str:
    if unknown and all(text.strip() in categories for text in unknown):
        return 'they differ only by spaces: declare "file": {"trim": true}'
    near = next(((text, found) for text in unknown if (found := near_name(text, categories))), None)
    return f"is {near[0]} meant to be {near[1]}?" if near else ""
