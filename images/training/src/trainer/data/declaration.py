"""The feature declaration: the one file that a team with different columns has to change."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainer.errors import BadInputError

BUILT_IN_DECLARATION = Path(__file__).parent / "declarations" / "loans.json"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NumericFeature(_Strict):
    """A number with a unit and an inclusive range of valid values."""

    name: str = Field(min_length=1)
    kind: Literal["numeric"]
    unit: str
    minimum: float
    maximum: float
    description: str
    reason_code: str = Field(min_length=1)
    protected: bool = False

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(f"{self.name}: minimum {self.minimum} is not below maximum {self.maximum}")
        return self


class CategoricalFeature(_Strict):
    """One of a closed list of categories.

    `ordered` means that the order of the list carries information (grades, for example); only the network's encoding
    uses it.
    """

    name: str = Field(min_length=1)
    kind: Literal["categorical"]
    categories: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=2)
    ordered: bool = False
    description: str
    reason_code: str = Field(min_length=1)
    protected: bool = False

    @model_validator(mode="after")
    def _categories_are_unique(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"{self.name}: a category is listed more than once")
        return self


Feature = Annotated[NumericFeature | CategoricalFeature, Field(discriminator="kind")]


class Target(_Strict):
    """The column with a loan's outcome, and its value for each outcome."""

    column: str
    default: str | int
    repaid: str | int

    @model_validator(mode="after")
    def _outcomes_differ(self) -> Self:
        if str(self.default) == str(self.repaid):
            raise ValueError("target: default and repaid must be different values")
        return self


class FeatureDeclaration(_Strict):
    """The columns a model learns from and their valid values.

    Attributes:
        id_column: Column whose values must be unique if the data has it, or None.
        target: The column to predict.
        features: In the order of the model contract.
        ignored: Fields that clients may keep sending although the model does not use them, such as features of an
            older model; they go into the model contract.
    """

    id_column: str | None = None
    target: Target
    features: tuple[Feature, ...] = Field(min_length=1)
    ignored: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, values in (
            ("feature name", [feature.name for feature in self.features]),
            ("reason code", [feature.reason_code for feature in self.features]),
            ("ignored field", list(self.ignored)),
        ):
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{what} used more than once: {', '.join(repeated)}")
        if self.target.column in self.names:
            raise ValueError(f"the target {self.target.column} is also a feature")
        if both := [name for name in self.ignored if name in {*self.names, self.target.column}]:
            raise ValueError(f"ignored, but also a feature or the target: {', '.join(both)}")
        return self

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
    def category_counts(self) -> tuple[int, ...]:
        """Number of categories per categorical feature."""
        return tuple(len(feature.categories) for feature in self.categorical)

    @property
    def ordered(self) -> tuple[bool, ...]:
        """Whether the categories of each categorical feature are ordered."""
        return tuple(feature.ordered for feature in self.categorical)

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
        return FeatureDeclaration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"feature declaration {path}: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'file'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise BadInputError(f"feature declaration {path}: {problems}") from error
