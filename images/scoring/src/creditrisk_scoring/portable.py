"""A version that is sent to other processes and scores there: what Spark, Ray and MLflow have in common."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from creditrisk_scoring.errors import UsageError
from creditrisk_scoring.scoring import FILES, Version, load_version, result_schema, score
from scorer.model.scorecard import Scorecard

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class Files:
    """A version's files, and the scale of its score points.

    Attributes:
        contents: The bytes of each of `scoring.FILES`.
        scorecard: The scale.
    """

    contents: tuple[bytes, ...]
    scorecard: Scorecard


@lru_cache(maxsize=4)
def load(files: Files) -> Version:
    """Return the version; a process loads it once, however many copies of its files it gets.

    Raises:
        UsageError: It cannot be served.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in zip(FILES, files.contents, strict=True):
            (Path(folder) / name).write_bytes(content)
        return load_version(Path(folder), files.scorecard)


class BatchScorer:
    """Scores batches in whatever process it is sent to.

    It carries the version's files. So workers need neither a shared folder nor the registry, and all of them score with
    the same version, even if an alias moves meanwhile.

    Attributes:
        keep: The input columns that come first in what it returns.
        results: The columns that follow.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        reasons: int = 0,
        keep: Sequence[str] = (),
        scorecard: Sequence[float] = (600, 50, 20),
    ) -> None:
        """Read a version, and prove that it can be served.

        Args:
            model: A folder with model.onnx and contract.json; or models:/NAME/VERSION or models:/NAME@ALIAS, of the
                registry in MLFLOW_TRACKING_URI.
            reasons: How many reason codes to find, at most; 0 for none, and for no column of them.
            keep: Input columns that the results get, first.
            scorecard: Base points, base odds, and points to double the odds, the same as the scoring service's.

        Raises:
            UsageError: There is no such version, it cannot be served, or an argument does not fit it.
            BulkError: The registry cannot be reached, or has no such version.
        """
        self._files = Files(_contents(os.fspath(model)), _scorecard(scorecard))
        self._reasons, self.keep = reasons, tuple(dict.fromkeys(keep))
        contract = load(self._files).contract
        if not 0 <= reasons <= contract.max_reasons:
            raise UsageError(f"{reasons} reasons; allowed: 0 to {contract.max_reasons}")
        self.results = result_schema(contract, reasons)
        if twice := set(self.keep).intersection(self.results.names):
            raise UsageError(f"keep {', '.join(sorted(twice))}; allowed: names that no result has")

    def needed(self, given: Sequence[str]) -> list[str]:
        """Return which of the given columns it reads: those to keep, and the model's features.

        Raises:
            UsageError: A column to keep is not among them.
        """
        if absent := [name for name in self.keep if name not in given]:
            raise UsageError(f"keep {', '.join(absent)}; allowed: {', '.join(given)}")
        features = {feature.name for feature in load(self._files).contract.features}
        return list(dict.fromkeys([*self.keep, *(name for name in given if name in features)]))

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the columns of what a batch with the given ones becomes: those to keep, then `results`."""
        return pa.schema([*(given.field(name) for name in self.keep), *self.results])

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the results of applications, in their order, as `scoring.score` has them.

        Raises:
            UsageError: A column is missing, appears twice, or has a type that cannot be read.
        """
        found = score(batch, load(self._files), reasons=self._reasons)
        kept = [batch.column(name) for name in self.keep]
        return pa.RecordBatch.from_arrays([*kept, *found.columns], schema=self.schema(batch.schema))


def _scorecard(given: Sequence[float]) -> Scorecard:
    if len(given) != 3 or min(given[1:]) <= 0:
        raise UsageError(f"scorecard {given!r}; allowed: base points, base odds and points to double the odds")
    return Scorecard(*given)


def _contents(model: str) -> tuple[bytes, ...]:
    if not model.startswith("models:"):
        return _read(Path(model))
    registered, registry = _REGISTERED.fullmatch(model), os.environ.get("MLFLOW_TRACKING_URI")
    if not registered:
        raise UsageError(f"{model} is no version; allowed: models:/NAME/VERSION, models:/NAME@ALIAS, or a folder")
    if not registry:
        raise UsageError(f"{model} needs MLFLOW_TRACKING_URI in the environment")
    # Its client is needed only here.
    from creditrisk_scoring.registry import fetch_version  # noqa: PLC0415

    name, version, alias = registered["name"], registered["version"] or "", registered["alias"] or ""
    # In a thread of its own, because a notebook's thread has an event loop already.
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        return _read(thread.submit(fetch_version, registry, name, version, Path(folder), alias=alias).result())


def _read(folder: Path) -> tuple[bytes, ...]:
    try:
        return tuple((folder / name).read_bytes() for name in FILES)
    except OSError as error:
        raise UsageError(f"{folder} holds no version: {error}; needed: {' and '.join(FILES)}") from error
