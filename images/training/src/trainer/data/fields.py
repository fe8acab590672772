"""Field types of the feature declaration."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

# Beside the features, an application may hold this field; the service keeps the name for itself.
RESERVED_NAMES = frozenset({"applicant_id"})


def _as_text(value: object) -> object:
    """Return a label or category that JSON holds as a number or boolean as its text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _usable_as_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(f"{name}: the service keeps this name for itself; rename the feature")
    if not name.isprintable():
        raise ValueError(f"{name!r}: a name must not contain control characters")
    return name


Label = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
Labels = Annotated[tuple[Label, ...], BeforeValidator(_as_list)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_usable_as_name)]


class Strict(BaseModel):
    """A part of the declaration: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
