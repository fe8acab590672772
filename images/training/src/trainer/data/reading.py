"""Read the declared columns of training data: CSV or Parquet, from a file, URL or S3, or generated."""

import csv
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.data import sources
from trainer.data.cells import MISSING
from trainer.data.csv_file import TEXT, CsvFile, OtherEncodingError, read_csv
from trainer.data.declaration import FeatureDeclaration
from trainer.data.file_format import FileFormat
from trainer.data.file_kinds import BYTES_NEEDED, GZIP, PARQUET, refuse_other_kinds
from trainer.data.layout import Layout, detect_layout, looks_like_data, near_name, utf_16_without_mark
from trainer.data.parquet_files import add_bytes, open_columns
from trainer.data.problems import InvalidDataError, Problem
from trainer.data.synthetic import generate
from trainer.errors import BadInputError

logger = logging.getLogger(__name__)

# Types of Parquet columns whose values are neither texts nor numbers nor dates.
_NO_CELLS = (pa.types.is_nested, pa.types.is_duration, pa.types.is_binary, pa.types.is_large_binary)


@dataclass(frozen=True)
class RawTable:
    """Data as read, before validation.

    Attributes:
        frame: The declared columns that the data has: numbers as float64 or, if any value is no number, as text; dates
            as dates; everything else as text. Cells that hold no value are missing. It has no rows if the data was
            validated while it was read.
        undeclared: Columns of the data that the declaration does not use.
        source: Where the data came from, for people.
        sha256: Digest of the bytes that were read (of the generated table for `synthetic`).
    """

    frame: pd.DataFrame
    undeclared: tuple[str, ...]
    source: str
    sha256: str


def read_table(
    source: str, declaration: FeatureDeclaration, *, scratch: Path, synthetic_rows: int, seed: int
) -> RawTable:
    """Read a CSV (plain or gzipped) or Parquet file, or generate the built-in sample.

    Args:
        source: A path, `s3://bucket/key`, an http(s) URL, or `synthetic`.
        declaration: The columns to read.
        scratch: Folder for the downloaded file, which is deleted after reading.
        synthetic_rows: Rows of the built-in sample.
        seed: Seed of the built-in sample.

    Raises:
        BadInputError: `source` cannot be read, or is neither CSV nor Parquet.
        InvalidDataError: It has none of the declared columns, or rows that are longer or shorter than the header.
    """
    if source == "synthetic":
        frame = generate(synthetic_rows, seed)
        digest = hashlib.sha256(pd.util.hash_pandas_object(frame).to_numpy().tobytes()).hexdigest()
        found = [name for name in declaration.columns if name in frame.columns]
        undeclared = tuple(name for name in frame.columns if name not in found)
        return logged(RawTable(frame[found], undeclared, f"synthetic ({synthetic_rows} rows, seed {seed})", digest))
    with sources.on_disk(source, scratch) as path, readable(source):
        return read_file(path, source, declaration)


@dataclass(frozen=True)
class Undeclared:
    """A file of which nothing is declared.

    Attributes:
        file: What had to be guessed to read it: the encoding, and names if it has no header.
        delimiter: A CSV file's delimiter; "" for Parquet.
        frame: The columns as pandas Categoricals; cells without a value are missing.
        skipped: Columns of Parquet that hold neither texts nor numbers nor dates, with their types.
    """

    file: FileFormat
    delimiter: str
    frame: pd.DataFrame
    skipped: dict[str, str] = field(default_factory=dict)


def read_as_text(source: str, *, scratch: Path) -> Undeclared:
    """Read all named columns of a file as text, whatever they hold; columns of a CSV file without a header get names.

    Args:
        source: A path or URL, as for `read_table`.
        scratch: Folder for the downloaded file, which is deleted after reading.

    Raises:
        BadInputError: `source` cannot be read, or is neither CSV nor Parquet.
    """
    with sources.on_disk(source, scratch) as path, readable(source):
        with path.open("rb") as opened:
            beginning = opened.read(BYTES_NEEDED)
        if beginning.startswith(PARQUET):
            file, delimiter, table = FileFormat(), "", pq.read_table(path)
        else:
            refuse_other_kinds(beginning, source)
            file, delimiter, table = _read_undeclared_csv(CsvFile(path, beginning.startswith(GZIP)), source)
        kinds = {name: table.column(name).type for name in table.column_names}
        skipped = {name: str(kind) for name, kind in kinds.items() if any(holds(kind) for holds in _NO_CELLS)}
        text = {name: _text(name, table.column(name), frozenset()) for name in kinds if name not in skipped}
        return Undeclared(file, delimiter, pd.DataFrame(text, copy=False), skipped)


def _read_undeclared_csv(data: CsvFile, source: str) -> tuple[FileFormat, str, pa.Table]:
    """Read a file of which nothing is declared, so that its encoding has to be guessed as well."""
    try:
        return _read_in_encoding(data, utf_16_without_mark(data.beginning()[0]), source)
    except OtherEncodingError as error:
        try:
            return _read_in_encoding(data, "cp1252", source)
        except UnicodeDecodeError:
            raise error from None


def _read_in_encoding(data: CsvFile, encoding: str, source: str) -> tuple[FileFormat, str, pa.Table]:
    beginning, whole = data.beginning()
    file = FileFormat(encoding=encoding)
    layout = detect_layout(beginning, file, (), whole=whole)
    if looks_like_data(layout.names):
        names = tuple(f"column_{index + 1}" for index in range(len(layout.names)))
        file = file.model_copy(update={"columns": names})
        layout = detect_layout(beginning, file, (), whole=whole)
    types = {name: TEXT for name in layout.names if name}
    return file, layout.delimiter, read_csv(data, layout, types, decimal=file.decimal, source=source)


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Raise what libraries say about a file as the one error that this module documents."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, csv.Error) as error:
        # Arrow's errors about broken files are OSErrors, too, but not the operating system's.
        if isinstance(error, OSError) and error.strerror:
            raise BadInputError(f"{source}: {error.strerror}") from error
        raise BadInputError(f"{source}: neither a CSV (plain or gzipped) nor a Parquet file: {error}") from error


def read_file(path: Path, source: str, declaration: FeatureDeclaration) -> RawTable:
    """Read a file on disk as `read_table` does; `source` is what people call it."""
    with path.open("rb") as file:
        beginning = file.read(BYTES_NEEDED)
        digest = hashlib.sha256(beginning)
        add_bytes(digest, file)
    if beginning.startswith(PARQUET):
        header, table = _read_parquet(path, source, declaration)
    else:
        refuse_other_kinds(beginning, source)
        header, table = _read_csv(CsvFile(path, beginning.startswith(GZIP)), source, declaration)
    undeclared = tuple(name for name in header if name not in declaration.columns)
    return logged(RawTable(frame_of(table, declaration), undeclared, source, digest.hexdigest()))


def _read_parquet(path: Path, source: str, declaration: FeatureDeclaration) -> tuple[Sequence[str], pa.Table]:
    header: list[str] = pq.read_schema(path).names
    wanted = columns_to_read(header, source, declaration)
    with open_columns(path, wanted) as file:
        return header, file.read(columns=wanted)


def columns_to_read(header: Sequence[str], source: str, declaration: FeatureDeclaration) -> list[str]:
    """Return the declared columns that a Parquet file has.

    Raises:
        InvalidDataError: It has none of them.
        ValueError: It has one of them more than once.
    """
    if not (wanted := [name for name in declaration.columns if name in header]):
        found = f"The file has {len(header)} columns: {', '.join(header[:8])}"
        raise _nothing_found(source, declaration, found, "")
    if repeated := [name for name in wanted if header.count(name) > 1]:
        raise ValueError(f"duplicate column: {', '.join(repeated)}")
    return wanted


def _read_csv(file: CsvFile, source: str, declaration: FeatureDeclaration) -> tuple[Sequence[str], pa.Table]:
    beginning, whole = file.beginning()
    layout = detect_layout(beginning, declaration.file, declaration.columns, whole=whole)
    plain = {declaration.weight_column, *(feature.name for feature in declaration.numeric if feature.parse is None)}
    types = {
        name: pa.float64() if name in plain else None if name == declaration.id_column else TEXT
        for name in declaration.columns
        if name in layout.names
    }
    if not types:
        raise _nothing_found(source, declaration, f"Read as {layout}", _cause(layout, declaration))
    if declaration.file.columns and {*declaration.file.columns}.intersection(layout.first_rows[0]):
        raise ValueError('its first line is a header; remove "columns" from the feature declaration\'s "file"')
    return layout.names, read_csv(file, layout, types, decimal=declaration.file.decimal, source=source)


def _nothing_found(source: str, declaration: FeatureDeclaration, found: str, cause: str) -> InvalidDataError:
    wanted = ", ".join(declaration.columns[:8]) + (", ..." if len(declaration.columns) > 8 else "")
    message = f"none of the {len(declaration.columns)} declared columns was found ({wanted}). {found}. {cause}".rstrip()
    return InvalidDataError(source, None, (Problem(None, message),))


def _cause(layout: Layout, declaration: FeatureDeclaration) -> str:
    if len(layout.names) == 1:
        return 'If that is several columns, declare their delimiter as "file": {"delimiter": ...}'
    if looks_like_data(layout.names):
        return 'If the file has no header, declare the columns\' names, in order, as "file": {"columns": [...]}'
    near = [(name, near_name(name, layout.names)) for name in declaration.columns]
    if meant := [f"{found!r} for {name!r}" for name, found in near if found]:
        return f"Names must be equal: the data has {', '.join(meant[:5])}"
    return "Is it the right file, and the right feature declaration (--features)?"


def frame_of(table: pa.Table, declaration: FeatureDeclaration) -> pd.DataFrame:
    """Return a table, or a part of one, in the form of `RawTable.frame`."""
    numbers = {declaration.weight_column, *(feature.name for feature in declaration.numeric)}
    kept = {
        **{feature.name: frozenset(feature.categories) for feature in declaration.categorical},
        declaration.target.column: declaration.target.labels,
    }
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if name == declaration.id_column and name not in kept and not _is_text(column.type):
            columns[name] = column.to_pandas()
        elif name in numbers and _is_number(column.type):
            columns[name] = pc.cast(column, pa.float64(), safe=False).to_pandas()
        elif name not in kept and pa.types.is_temporal(column.type):
            columns[name] = column.to_pandas(date_as_object=False)
        else:
            columns[name] = _text(name, column, kept.get(name, frozenset()))
    return pd.DataFrame(columns, copy=False)


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _is_number(kind: pa.DataType) -> bool:
    of = pa.types
    return any(is_it(kind) for is_it in (of.is_integer, of.is_floating, of.is_boolean, of.is_decimal, of.is_null))


def _text(name: str, column: pa.ChunkedArray, kept: frozenset[str]) -> pd.Series:
    """Return a column as text: a pandas Categorical in which cells without a value are missing."""
    if pa.types.is_nested(column.type):
        raise ValueError(f"column {name} holds {column.type}, not single values")
    if not (pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type)):
        column = pc.dictionary_encode(column.cast(pa.string()))
    text: pd.Series = column.unify_dictionaries().to_pandas()
    without_value = [token for token in MISSING if token not in kept and token in text.cat.categories]
    return pd.Series(text.cat.remove_categories(without_value) if without_value else text)


def logged(table: RawTable) -> RawTable:
    """Log which columns a table does not use, and return it."""
    if table.undeclared:
        names = (name or "(without a name)" for name in table.undeclared)
        logger.info("%s: skipping undeclared columns: %s", table.source, ", ".join(names))
    return table
