"""Parquet that is larger than memory: read, validated and kept part by part, in files of the scratch volume."""

import hashlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from trainer.data import columns
from trainer.data.declaration import FeatureDeclaration
from trainer.data.parquet_files import ParquetFiles
from trainer.data.problems import InvalidDataError
from trainer.data.reading import RawTable, columns_to_read, frame_of, logged, readable
from trainer.data.row_columns import with_mean_weight_1
from trainer.data.storage import Scratch
from trainer.data.validation import Validation

# What the names of the files begin with; they are of no use once training and test rows are in files of their own.
ALL_ROWS = "all-rows"
_CODES = np.dtype(np.int32)
_DATES = np.dtype("datetime64[us]")
_TARGET = np.dtype(np.int8)


def read_validated(
    files: ParquetFiles, declaration: FeatureDeclaration, scratch: Scratch, *, minimum_rows: int
) -> tuple[RawTable, pd.DataFrame]:
    """Read and validate files, and keep what training needs of them in files that are mapped into memory.

    Memory holds one part of the rows, the digests of their ids (8 bytes each), and the distinct texts.

    Args:
        files: The data.
        declaration: The columns to read.
        scratch: Where to keep them.
        minimum_rows: How many rows there must be.

    Returns:
        The table without its rows, and the rows as `validation.validate` returns them, but without ids, and only with
        the columns of features, target, weight and date.

    Raises:
        BadInputError: A file cannot be read, or the scratch volume is too small.
        InvalidDataError: The data does not match the declaration.
    """
    with readable(files.source):
        header = files.header()
        wanted = columns_to_read(header, files.source, declaration)
        if rows := files.rows():
            scratch.require(rows * _bytes_per_row(declaration))
    undeclared = tuple(name for name in header if name not in declaration.columns)
    validation, kept, digest = Validation(files.source, declaration), _Columns(declaration, scratch), hashlib.sha256()
    starts: dict[str, int] = {}
    like = pd.DataFrame()
    for name, raw in _frames(files, wanted, declaration, digest):
        starts.setdefault(name, int(raw.index[0]) + 1)
        kept.append(validation.check(raw))
        like = raw.iloc[:0]

    def ids() -> Iterator[pd.Series]:
        column = str(declaration.id_column)
        return (raw[column] for _, raw in _frames(files, [column], declaration))

    if not starts:
        # No file has rows; say so, not that columns are missing.
        empty = pa.table({name: pa.array([], pa.null()) for name in wanted})
        kept.append(validation.check(frame_of(empty, declaration)))
    try:
        validation.require(undeclared, ids, minimum_rows=minimum_rows)
    except InvalidDataError as error:
        raise InvalidDataError(
            error.source, error.row_count, error.problems, starts if len(starts) > 1 else None
        ) from None
    table = logged(RawTable(like, undeclared, files.source, digest.hexdigest()))
    return table, with_mean_weight_1(kept.frame(), declaration)


def _frames(
    files: ParquetFiles, wanted: list[str], declaration: FeatureDeclaration, digest: "hashlib._Hash | None" = None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Return the parts of the data, whose index counts the rows of all files, and the file that each is from."""
    parts, first = files.parts(wanted, digest), 0
    while True:
        with readable(files.source):
            found = next(parts, None)
            if found is None:
                return
            raw = frame_of(found[1], declaration)
        raw.index = pd.RangeIndex(first, first + len(raw))
        first += len(raw)
        if len(raw):
            yield found[0], raw


def _bytes_per_row(declaration: FeatureDeclaration) -> int:
    """Return the bytes of a row in files while it is there twice: among all rows, and in its part, encoded too."""
    numeric, categorical = len(declaration.numeric), len(declaration.categorical)
    row_columns = (declaration.weight_column is not None) + (declaration.date_column is not None)
    validated = 8 * (numeric + row_columns) + _CODES.itemsize * categorical + 1
    return 2 * validated + 4 * (numeric + 1) + categorical


class _Columns:
    """The columns of validated rows, each in a file that grows."""

    def __init__(self, declaration: FeatureDeclaration, scratch: Scratch) -> None:
        names = [*declaration.names, declaration.target.column]
        names += [name for name in (declaration.weight_column, declaration.date_column) if name]
        self._scratch = scratch
        self._columns = {
            name: _Column(f"{ALL_ROWS}-{index}", _kind(name, declaration), scratch) for index, name in enumerate(names)
        }

    def append(self, part: pd.DataFrame) -> None:
        """Append the next rows; a column that they lack stays behind, which validation reports."""
        self._scratch.require(len(part) * sum(column.kind.itemsize for column in self._columns.values()))
        with self._scratch.writing():
            for name, column in self._columns.items():
                if name in part.columns:
                    column.append(part[name])

    def frame(self) -> pd.DataFrame:
        """Return all rows, mapped into memory."""
        with self._scratch.writing():
            return pd.DataFrame({name: column.mapped() for name, column in self._columns.items()}, copy=False)


def _kind(name: str, declaration: FeatureDeclaration) -> np.dtype[Any]:
    if name == declaration.target.column:
        return _TARGET
    if name == declaration.date_column:
        return _DATES
    return _CODES if name in {feature.name for feature in declaration.categorical} else np.dtype(np.float64)


class _Column:
    """A column in a file; texts are positions in a list of the distinct ones, which is in memory."""

    def __init__(self, name: str, kind: np.dtype[Any], scratch: Scratch) -> None:
        self.kind, self._name, self._scratch = kind, name, scratch
        self._path = scratch.folder / f"{name}.column"
        self._file: IO[bytes] = self._path.open("wb")
        self._texts: dict[str, int] = {}
        self._text_kind: Any = object

    def append(self, values: pd.Series) -> None:
        """Append values."""
        if self.kind == _CODES:
            texts, codes = columns.distinct(values)
            self._text_kind = values.cat.categories.dtype
            known = np.array([*(self._texts.setdefault(text, len(self._texts)) for text in texts), -1], dtype=_CODES)
            found = known[codes]
        else:
            found = values.to_numpy(dtype=self.kind)
        self._file.write(found.tobytes())

    def mapped(self) -> npt.NDArray[Any] | pd.Categorical:
        """Return all values."""
        self._file.close()
        if not self._path.stat().st_size:
            return np.empty(0, self.kind)
        values = np.asarray(np.memmap(self._path, self.kind, mode="r+"))
        if self.kind != _CODES:
            return values
        categories = pd.Index(list(self._texts), dtype=self._text_kind)
        # The type that pandas wants, because it would copy another one into memory.
        narrow = pd.Categorical.from_codes([], categories=categories).codes.dtype
        codes = self._scratch.empty(self._name, values.shape, narrow)
        codes[:] = values
        self._path.unlink()
        return pd.Categorical.from_codes(codes, categories=categories)
