"""Helm over a copy of the charts with their dependencies in place: nothing in the repository changes."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY

CHARTS = REPOSITORY / "charts"
SCENARIOS = [
    "credit-risk/values-k3s.yaml",
    *sorted(str(path.relative_to(CHARTS)) for path in CHARTS.glob("*/ci/*-values.yaml")),
]
Document = dict[str, Any]


@functools.cache
def helm() -> str:
    """The program's path; skips the test where there is none."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credit-risk/tools/bin/helm"
    found = os.environ.get("HELM") or (str(cached) if cached.exists() else shutil.which("helm"))
    if not found:
        pytest.skip("helm is not there: `make tools` installs it")
    return found


@functools.cache
def _copy() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="charts-")
    copy = Path(folder.name) / "charts"
    shutil.copytree(CHARTS, copy, ignore=shutil.ignore_patterns("*.tgz", "Chart.lock"))
    subprocess.run([str(copy / "build.sh")], check=True, env={**os.environ, "HELM": helm()})
    return folder


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm in the copy's folder of charts."""
    return subprocess.run([helm(), *arguments], capture_output=True, text=True, cwd=Path(_copy().name) / "charts")


@functools.cache
def render(scenario: str, *options: str) -> list[Document]:
    """Return what a chart renders to with one of its ci/ values files."""
    return render_chart(scenario.partition("/")[0], "--values", scenario, *options)


def render_chart(chart: str, *options: str) -> list[Document]:
    """Return what a chart renders to."""
    result = run_helm("template", "release", chart, "--namespace", "ns", *options)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]
