"""Versions in one process: the memory of one that was replaced is given back."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from unit.scorer.service_process import SOURCES

CHANGES = 200
# Before them, caches and the allocator's pools still fill.
FIRST = 20


@pytest.mark.slow
def test_memory_stays_flat_over_200_changes_of_the_version(model_folder: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("change_versions.py")), str(model_folder), str(CHANGES)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == CHANGES
    before, after = statistics.median(found[FIRST : 2 * FIRST]), statistics.median(found[-FIRST:])
    assert after <= 1.05 * before, found
