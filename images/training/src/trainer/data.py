"""Reads loans from where they are and refuses what is no loan data, with one report of all that is wrong."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import numpy as np
import numpy.typing as npt
import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from trainer.features import CATEGORICAL, FEATURES, IDENTIFIER, NUMERIC, TARGET, Categorical, Numeric
from trainer.synthetic import generate

MINIMUM_ROWS = 500
SHOWN_ROWS = 5
SYNTHETIC_ROWS = 20_000


class DataError(ValueError):
    """Data that cannot be trained on; the message lists every problem with counts and row numbers."""


@dataclass(frozen=True)
class Loans:
    """Rows ready for the network.

    Attributes:
        numeric: float32 [N, 5] in the declared units.
        categorical: int64 [N, 6], positions in each feature's categories.
        default: float32 [N], 1 where the borrower defaulted.
        sha256: digest of the bytes that were read.
        source: where they came from.
    """

    numeric: npt.NDArray[np.float32]
    categorical: npt.NDArray[np.int64]
    default: npt.NDArray[np.float32]
    sha256: str
    source: str

    def __len__(self) -> int:
        """Return the number of loans."""
        return len(self.default)

    def rows(self, index: npt.NDArray[np.int64]) -> Loans:
        """Return the loans at these positions."""
        return Loans(self.numeric[index], self.categorical[index], self.default[index], self.sha256, self.source)


def read_loans(source: str) -> Loans:
    """Read and check loans from a path, `s3://bucket/key` or `synthetic`.

    Raises:
        DataError: when they cannot be read or are not loan data.
    """
    content = _content(source)
    try:
        frame = pd.read_csv(io.BytesIO(content))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{source} is not CSV: {error}") from error
    if problems := find_problems(frame):
        raise DataError(f"{source} cannot be trained on:\n" + "\n".join(f"  - {problem}" for problem in problems))
    numeric = frame[[feature.name for feature in NUMERIC]].to_numpy(np.float32)
    codes = [pd.Categorical(frame[f.name], categories=list(f.categories)).codes for f in CATEGORICAL]
    default = (1 - frame[TARGET]).to_numpy(np.float32)
    digest = hashlib.sha256(content).hexdigest()
    return Loans(numeric, np.stack(codes, axis=1).astype(np.int64), default, digest, source)


def find_problems(frame: pd.DataFrame) -> list[str]:
    """Return a line for every kind of problem in the data: which column, how many rows, the first of them."""
    wanted = [*(feature.name for feature in FEATURES), TARGET]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        return [f"columns are missing: {', '.join(missing)}; there are: {', '.join(map(str, frame.columns))}"]
    problems = []
    if len(frame) < MINIMUM_ROWS:
        problems.append(f"{len(frame)} rows are too few: at least {MINIMUM_ROWS} are needed")
    if IDENTIFIER in frame.columns:
        problems += _complaint(IDENTIFIER, "stands twice", frame[IDENTIFIER].duplicated())
    for feature in FEATURES:
        column = frame[feature.name]
        problems += _complaint(feature.name, "is missing", column.isna())
        problems += _feature_problems(feature, column)
    target = frame[TARGET]
    problems += _complaint(TARGET, "is not 0 or 1", ~target.isin([0, 1]))
    if target.nunique() < 2:
        problems.append(f"{TARGET} is the same in every row: there is nothing to learn")
    return problems


def _feature_problems(feature: Numeric | Categorical, column: pd.Series) -> list[str]:
    if isinstance(feature, Categorical):
        unknown = column.notna() & ~column.isin(feature.categories)
        return _complaint(feature.name, f"is not one of {', '.join(feature.categories)}", unknown)
    numbers = pd.to_numeric(column, errors="coerce")
    outside = numbers.notna() & ~numbers.between(feature.minimum, feature.maximum)
    return [
        *_complaint(feature.name, "is not a number", column.notna() & numbers.isna()),
        *_complaint(feature.name, f"is outside of {feature.minimum:g} to {feature.maximum:g}", outside),
    ]


def _complaint(name: str, problem: str, rows: pd.Series) -> list[str]:
    """Describe the rows that a problem is in; rows are counted as an editor counts lines, with the header as 1."""
    if not rows.any():
        return []
    lines = [int(position) + 2 for position in np.flatnonzero(rows.to_numpy())[:SHOWN_ROWS]]
    more = ", …" if rows.sum() > SHOWN_ROWS else ""
    return [f"{name} {problem} in {int(rows.sum())} rows (lines {', '.join(map(str, lines))}{more})"]


def _content(source: str) -> bytes:
    if source == "synthetic":
        return generate(SYNTHETIC_ROWS, seed=7).to_csv(index=False).encode()
    location = urlsplit(source)
    if location.scheme == "s3":
        try:
            found = boto3.client("s3").get_object(Bucket=location.netloc, Key=location.path.lstrip("/"))
            content: bytes = found["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise DataError(f"{source} cannot be read: {error}") from error
        return content
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from error
