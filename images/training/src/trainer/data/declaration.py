"""The feature declaration: the one file that a team with different columns has to change."""

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from trainer.data.fields import AdverseAction, ColumnName, DateFormat, Direction, Label, Labels, Name, Strict
from trainer.data.file_format import FileFormat
from trainer.data.inputs import CategoryInput, Inputs
from trainer.data.master_scale import DeclaredGrade, check_grades
from trainer.errors import BadInputError

BUILT_IN_DECLARATION = Path(__file__).parent / "declarations" / "loans.json"
# The network reads float32, and 1e38 leaves it room for differences.
LARGEST_NUMBER = 1e38


class Parse(StrEnum):
    """How the text of a numeric column becomes a number, if it is not written as one."""

    PERCENT = "percent"
    MONTHS = "months"
    THOUSANDS = "thousands"
    DATE = "date"


class _Feature(Strict):
    """What both kinds of features have.

    Attributes:
        missing: Whether the value may be missing; if left open, it may if the training data has missing values.
        monotonic: The direction that the probability of default must keep as the value rises, whatever the data say.
        adverse_action: What an adverse-action notice says if the feature led to the decline.
        protected: Whether the law keeps the feature out of credit decisions; it is then never a reason.
    """

    missing: Literal["allowed", "refused"] | None = None
    monotonic: Direction | None = None
    adverse_action: AdverseAction = ""
    protected: bool = False

    @model_validator(mode="after")
    def _protected_attributes_are_no_reasons(self) -> Self:
        if self.protected and self.adverse_action:
            raise ValueError("a protected attribute is never a reason: remove its adverse_action")
        return self

    @property
    def direction(self) -> int:
        """1 if the probability of default may not fall as the value rises, -1 if it may not rise, else 0."""
        return {"increasing": 1, "decreasing": -1, None: 0}[self.monotonic]

    @property
    def may_be_missing(self) -> bool:
        """Whether an application may lack the value. Only `resolution.resolve` knows it if it was left open."""
        return self.missing == "allowed"


def _check_missing_values(name: str, missing: str | None, values: tuple[float, ...] | tuple[str, ...]) -> None:
    if missing == "refused" and values:
        raise ValueError(f"{name}: missing_values, but missing is refused; remove one of the two")
    if len(set(values)) != len(values):
        raise ValueError(f"{name}: a value is listed more than once under missing_values")


class NumericFeature(_Feature):
    """A number with a unit and an inclusive range of valid values.

    `missing_values` are numbers that mean that the value is missing, whether within the range or not.

    The last three fields concern only the training data; clients of the model send the number.

    Attributes:
        parse: `percent` ("13.5%"), `months` ("36 months", "2 years 1 month"), `thousands` ("$1,234.50"), or `date`,
            which becomes its age in completed months; None for numbers and booleans.
        date_format: strptime's format of the dates; "" for ISO 8601.
        reference_date: The day at which ages are taken: an ISO date, or the column with each row's day.
    """

    name: Name
    kind: Literal["numeric"]
    unit: str
    minimum: float
    maximum: float
    missing_values: tuple[float, ...] = ()
    description: str
    reason_code: str = Field(min_length=1)
    parse: Parse | None = None
    date_format: DateFormat = ""
    reference_date: str = ""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(f"{self.name}: minimum {self.minimum} is not below maximum {self.maximum}")
        if max(abs(self.minimum), abs(self.maximum)) > LARGEST_NUMBER:
            raise ValueError(
                f"{self.name}: minimum and maximum must be within -{LARGEST_NUMBER:g} to {LARGEST_NUMBER:g}: the model "
                "reads float32"
            )
        _check_missing_values(self.name, self.missing, self.missing_values)
        return self

    @model_validator(mode="after")
    def _dates_have_a_reference(self) -> Self:
        if (self.parse is Parse.DATE) != bool(self.reference_date):
            raise ValueError(
                f'{self.name}: "parse": "date" requires "reference_date", a day such as 2026-01-31 or a column of '
                "days; nothing else has one"
            )
        if self.date_format and self.parse is not Parse.DATE:
            raise ValueError(f'{self.name}: date_format is only for "parse": "date"')
        return self

    @property
    def reference_column(self) -> str | None:
        """The column with each row's reference date, if it is not one day for all rows."""
        return self.reference_date if self.reference_date and self.reference_day is None else None

    @property
    def reference_day(self) -> dt.date | None:
        """The reference date, if it is one day for all rows."""
        try:
            return dt.date.fromisoformat(self.reference_date)
        except ValueError:
            return None


class OtherCategories(Strict):
    """When a category is learned as "other": it is rarer in the training rows than either limit, or not listed."""

    minimum_rows: int = Field(default=20, ge=1)
    minimum_share: float = Field(default=0.0, ge=0, lt=1)


class CategoricalFeature(_Feature):
    """One of a list of categories.

    `missing_values` are texts that mean that the value is missing. `other` accepts categories outside the list, all as
    one; without a list, it is learned from the training rows. `ordered` means that the order of the list carries
    information (grades, for example); the network's encoding and `monotonic` use it.
    """

    name: Name
    kind: Literal["categorical"]
    categories: tuple[Label, ...] = ()
    missing_values: tuple[Label, ...] = ()
    other: OtherCategories | None = None
    ordered: bool = False
    description: str
    reason_code: str = Field(min_length=1)

    @field_validator("other", mode="before")
    @classmethod
    def _other_may_be_a_switch(cls, value: object) -> object:
        return ({} if value else None) if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _categories_are_unique(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"{self.name}: a category is listed more than once")
        if len(self.categories) < 2 and not self.other:
            raise ValueError(f"{self.name}: list at least 2 categories, or declare `other` to learn them from the data")
        if both := [value for value in self.missing_values if value in self.categories]:
            raise ValueError(f"{self.name}: a category, but also under missing_values: {', '.join(both)}")
        if self.ordered and not self.categories:
            raise ValueError(f"{self.name}: ordered, but no categories are listed")
        if self.monotonic and not self.ordered:
            raise ValueError(f'{self.name}: monotonic, but its categories have no order; declare "ordered": true')
        _check_missing_values(self.name, self.missing, self.missing_values)
        return self


Feature = Annotated[NumericFeature | CategoricalFeature, Field(discriminator="kind")]


class Target(Strict):
    """The column with a loan's outcome, and its labels for each outcome.

    Attributes:
        default: One or several labels of loans that defaulted.
        repaid: One or several labels of loans that were repaid.
        ignored: Labels of loans whose outcome is open; their rows are dropped and counted.
    """

    column: str
    default: Labels = Field(min_length=1)
    repaid: Labels = Field(min_length=1)
    ignored: Labels = ()

    @property
    def labels(self) -> frozenset[str]:
        """All labels."""
        return frozenset((*self.default, *self.repaid, *self.ignored))

    @model_validator(mode="after")
    def _outcomes_differ(self) -> Self:
        labels = [*self.default, *self.repaid, *self.ignored]
        if repeated := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(
                "target: default and repaid must be different values, and a label must be listed once; listed more "
                f"than once: {', '.join(repeated)}"
            )
        return self


class FeatureDeclaration(Strict):
    """The columns a model learns from and their valid values.

    Attributes:
        id_column: Column whose values must be unique if the data has it, or None.
        weight_column: Column that says how many loans each row stands for, or None if each stands for one.
        date_column: Column with each loan's date, by which the data can be split, or None.
        date_format: strptime's format of that column; "" for ISO 8601.
        target: The column to predict.
        features: In the order of the model contract.
        ignored: Fields that clients may keep sending although the model does not use them, such as features of an
            older model; they go into the model contract.
        file: How a CSV file of such data is written.
        grades: The master scale, from the best to the worst grade; empty for none.
    """

    file: FileFormat = FileFormat()
    id_column: str | None = None
    weight_column: ColumnName | None = None
    date_column: ColumnName | None = None
    date_format: DateFormat = ""
    target: Target
    features: tuple[Feature, ...] = Field(min_length=1)
    ignored: tuple[Name, ...] = ()
    grades: tuple[DeclaredGrade, ...] = ()

    @field_validator("grades")
    @classmethod
    def _grades_divide_all_probabilities(cls, grades: tuple[DeclaredGrade, ...]) -> tuple[DeclaredGrade, ...]:
        check_grades(grades)
        return grades

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, values in (
            ("feature name", [feature.name for feature in self.features]),
            ("reason code", [feature.reason_code for feature in self.features]),
            ("ignored field", list(self.ignored)),
            ("adverse-action text", [text.casefold() for feature in self.features if (text := feature.adverse_action)]),
        ):
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{what} used more than once: {', '.join(repeated)}")
        if self.target.column in self.names:
            raise ValueError(f"the target {self.target.column} is also a feature")
        if self.date_format and not self.date_column:
            raise ValueError("date_format is that of the date_column, which is not declared")
        self._check_row_columns()
        if both := [name for name in self.ignored if name in {*self.names, self.target.column}]:
            raise ValueError(f"ignored, but also a feature or the target: {', '.join(both)}")
        if self.file.columns and (absent := [name for name in self.columns if name not in self.file.columns]):
            raise ValueError(f"file.columns lacks declared columns: {', '.join(absent)}")
        return self

    def _check_row_columns(self) -> None:
        """Refuse a weight or a date that is something else as well."""
        taken: dict[str | None, str] = {self.id_column: "the id_column", self.target.column: "the target"}
        taken.update(dict.fromkeys(self.names, "a feature"))
        # The date of a loan is often the day at which ages are taken.
        by_weight = taken | {self.date_column: "the date_column"}
        by_weight.update(dict.fromkeys(self._reference_columns, "a reference_date"))
        for key, column, used in (
            ("weight_column", self.weight_column, by_weight),
            ("date_column", self.date_column, taken),
        ):
            if column and column in used:
                raise ValueError(f"the {key} {column} is also {used[column]}; the model must not learn from it")

    @property
    def _reference_columns(self) -> tuple[str, ...]:
        return tuple(feature.reference_column for feature in self.numeric if feature.reference_column)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that training reads, each once: of rows (identifier, weight, date), features, target and days."""
        of_rows = [column for column in (self.id_column, self.weight_column, self.date_column) if column]
        return tuple(dict.fromkeys([*of_rows, *self.names, self.target.column, *self._reference_columns]))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all features, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def numeric(self) -> tuple[NumericFeature, ...]:
        """The numeric features, in order: the columns of the network's `numeric` input."""
        return tuple(feature for feature in self.features if isinstance(feature, NumericFeature))

    @property
    def categorical(self) -> tuple[CategoricalFeature, ...]:
        """The categorical features, in order: the columns of the network's `categorical` input."""
        return tuple(feature for feature in self.features if isinstance(feature, CategoricalFeature))

    @property
    def inputs(self) -> Inputs:
        """What the columns of the network's inputs may hold; only meaningful after `resolution.resolve`."""
        return Inputs(
            missing=tuple(feature.may_be_missing for feature in self.numeric),
            categories=tuple(
                CategoryInput(
                    len(feature.categories),
                    ordered=feature.ordered,
                    missing=feature.may_be_missing,
                    other=bool(feature.other),
                    direction=feature.direction,
                )
                for feature in self.categorical
            ),
            directions=tuple(feature.direction for feature in self.numeric),
        )

    def without_protected(self) -> "FeatureDeclaration":
        """Return this declaration with the protected attributes moved from the features to the ignored fields.

        Raises:
            BadInputError: No feature would be left.
        """
        kept = tuple(feature for feature in self.features if not feature.protected)
        if not kept:
            raise BadInputError("every declared feature is protected: nothing is left to train on")
        dropped = tuple(feature.name for feature in self.features if feature.protected)
        return self.model_copy(update={"features": kept, "ignored": (*self.ignored, *dropped)})


def load_declaration(path: Path) -> FeatureDeclaration:
    """Read a declaration from a JSON file.

    Raises:
        BadInputError: The file cannot be read or is not a valid declaration; the message lists every problem.
    """
    try:
        return FeatureDeclaration.model_validate_json(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise BadInputError(f"feature declaration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"feature declaration {path}: not UTF-8: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'file'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise BadInputError(f"feature declaration {path}: {problems}") from error
