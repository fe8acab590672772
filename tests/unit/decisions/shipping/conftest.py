"""A log that is being written, and a shipper of its pod."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter
from unit.decisions.shipping.running import Running


@pytest.fixture
def running(database: DecisionsDatabase, tmp_path: Path) -> Iterator[Running]:
    shipper = Running(tmp_path, database.url)
    yield shipper
    shipper.stop()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogWriter]:
    writer = LogWriter(tmp_path)
    yield writer
    writer.close()
