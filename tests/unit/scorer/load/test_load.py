"""The service under load: the promises of docs/scoring.md against what benchmarks/serving measures.

They need wrk and two cores of which nothing else takes much, so only `make test-soak` runs them.
CREDIT_RISK_LOAD_MINUTES says how long the steady load lasts, 30 without it. With 2 the slope's error may be larger than
its limit, and only a leak that stands out of it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from localcluster.console import say

BENCHMARKS = REPOSITORY / "benchmarks" / "serving"
MINUTES = float(os.environ.get("CREDIT_RISK_LOAD_MINUTES", "30"))
pytestmark = [
    pytest.mark.soak,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the service and its clients need a core each"),
]


def measured(script: str, model_folder: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), "--model", str(model_folder), "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "images" / "training" / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    say(f"{script}: {json.dumps(found)}")
    return found


@pytest.fixture(scope="module")
def overload(model_folder: Path) -> dict[str, Any]:
    return measured("overload.py", model_folder, "--rounds=3", "--seconds=10")


def test_overload_is_refused_at_once_and_the_rest_is_scored(overload: dict[str, Any]) -> None:
    found = overload["overload"]
    over, normal = found["overload"], found["capacity"]
    assert normal["refused"] == 0, found
    # Refusals cost processor time too; a service that only refuses scores next to nothing.
    assert over["refused"] > 0, found
    assert over["scored"] > normal["scored"] / 4, found
    assert found["promise"]["other"] == 0, found
    # Of clients that do as Retry-After says; those that retry at once are made to wait.
    assert found["promise"]["refusal_p50"] <= normal["p99"], found
    assert found["promise"]["p99_ratio"] <= 2, found
    assert found["promise"]["recovery_seconds"] <= 5, found


@pytest.mark.parametrize("clients", ["1", "4"])
def test_batches_of_the_largest_size_leave_room_for_single_applications_and_probes(
    overload: dict[str, Any], clients: str
) -> None:
    found = overload["batches"][clients]
    assert found["batches"] >= 10, found
    assert found["probe_max"] <= 1000, found
    assert found["single_p99"] < 50, found


def test_memory_stays_flat_under_a_steady_load(model_folder: Path) -> None:
    warm_up = max(1.0, MINUTES / 6)
    found = measured("steady.py", model_folder, f"--minutes={MINUTES}", f"--warm-up-minutes={warm_up}")
    assert found["failed"] == 0, found
    assert found["refused"] == 0, found
    assert found["slope"] - 2 * found["error"] < 1, found
    if MINUTES >= 20:
        assert found["slope"] < 1, found
