"""One report for all tests of a process that look at reports."""

from __future__ import annotations

import pytest

from decisions.drift import distance
from decisions.drift.document import DriftReport
from unit.decisions.drift.reports import drifted_report
from unit.decisions.service.fixtures import decisions_server, running, site

__all__ = ["decisions_server", "running", "site"]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> DriftReport:
    return drifted_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw fewer samples: bounds are then less exact, and tests do not depend on that."""
    monkeypatch.setattr(distance, "_SAMPLES", 2000)
