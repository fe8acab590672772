"""A version with grades, missing and other values, and bulk scoring in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditrisk_scoring.command import main
from creditrisk_scoring.scoring import Version, load_version
from scorer.model.scorecard import Scorecard
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("version"), **GRADED_CONTRACT)


@pytest.fixture(scope="session")
def version(folder: Path) -> Version:
    return load_version(folder, Scorecard(600, 50, 20))


@dataclass
class Ended:
    """How a command ended; its results and its rejected rows, in the order of files and rows."""

    code: int
    summary: dict[str, Any]
    messages: str
    target: Path

    @property
    def scores(self) -> pa.Table:
        return table_of(self.target / "scores")

    @property
    def rejected(self) -> pa.Table:
        return table_of(self.target / "rejected")


def table_of(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob("*.parquet")))


@pytest.fixture
def bulk(folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., Ended]:
    def run(source: Path | str, target: Path | str, *options: str) -> Ended:
        caplog.clear()
        caplog.set_level("INFO")
        code = main([str(source), str(target), "--model", str(folder), "--json", *options])
        out = capsys.readouterr().out
        return Ended(code, json.loads(out or "{}"), caplog.text, Path(target))

    return run
