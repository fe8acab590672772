"""How a CSV file is written, where that cannot be told from the file."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from trainer.data.fields import Strict


class FileFormat(Strict):
    """How a CSV file is written, where that cannot be told from the file.

    Attributes:
        encoding: Name of a Python codec; "" for UTF-8, or UTF-16 if the file starts with its byte order mark.
        delimiter: What separates fields; "" for the comma, semicolon, tab, bar or space that fits the declared columns.
        decimal: The decimal separator of numbers.
        columns: The columns of a file without a header, in order; empty if the first line is the header.
        trim: Whether spaces around categories, labels and the header's names are removed.
    """

    encoding: str = ""
    delimiter: Annotated[str, Field(max_length=1)] = ""
    decimal: Literal[".", ","] = "."
    columns: tuple[str, ...] = ()
    trim: bool = False

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        try:
            "".encode(name or "utf-8")
            return codecs.lookup(name).name if name else ""
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"{name!r} is not an encoding; use utf-8, utf-16, latin-1 or cp1252, for example"
            ) from error

    @model_validator(mode="after")
    def _separators_are_usable(self) -> Self:
        if self.delimiter and (
            self.delimiter in '"\r\n\0' or self.delimiter == self.decimal or not self.delimiter.isascii()
        ):
            raise ValueError(
                f"delimiter {self.delimiter!r}: use one ASCII character that is no quote, line break or decimal"
            )
        if repeated := sorted({name for name in self.columns if name and self.columns.count(name) > 1}):
            raise ValueError(f"columns: listed more than once: {', '.join(repeated)}")
        return self
