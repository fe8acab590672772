"""Run Helm on a copy of the charts with their dependencies built, so that nothing in the repository changes."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY

CHARTS = REPOSITORY / "charts"
# Every chart but `common`, which is a library and has no values.
NAMES = [path.parent.name for path in sorted(CHARTS.glob("*/values.yaml"))]
SCENARIOS = [
    "credit-risk/values-k3s.yaml",
    *sorted(str(path.relative_to(CHARTS)) for path in CHARTS.glob("*/ci/*-values.yaml")),
]
POD_OWNERS = {"Deployment", "StatefulSet", "Job", "CronJob", "Pod"}
Document = dict[str, Any]


@functools.cache
def helm() -> str:
    """Return the path of the helm binary; skip the test if there is none."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credit-risk/tools/bin/helm"
    found = os.environ.get("HELM") or (str(cached) if cached.exists() else shutil.which("helm"))
    if not found:
        pytest.skip("helm is not installed: run `make tools`")
    return found


@functools.cache
def _copy() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="charts-")
    charts = Path(folder.name) / "charts"
    shutil.copytree(CHARTS, charts, ignore=shutil.ignore_patterns("*.tgz", "Chart.lock"))
    subprocess.run([str(charts / "build.sh")], check=True, env={**os.environ, "HELM": helm()})
    return folder


def built_charts() -> Path:
    """Return a copy of the charts with their dependencies built."""
    return Path(_copy().name) / "charts"


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm in the charts folder of the copy."""
    return subprocess.run([helm(), *arguments], capture_output=True, text=True, cwd=built_charts())


def render(scenario: str, *options: str) -> list[Document]:
    """Return what a chart renders with one of its ci/ values files."""
    return parse(_rendered(scenario.partition("/")[0], "--values", scenario, *options))


def render_chart(chart: str, *options: str) -> list[Document]:
    """Return what a chart renders."""
    return parse(_rendered(chart, *options))


def render_by_template(scenario: str, *options: str) -> dict[str, list[Document]]:
    """Return what each template file of a chart and its subcharts renders with one of the chart's ci/ values files."""
    found: dict[str, list[Document]] = {}
    text = _rendered(scenario.partition("/")[0], "--values", scenario, *options)
    # Helm names the template above each object.
    for part in re.split(r"^---\n# Source: ", text, flags=re.MULTILINE)[1:]:
        template, _, rest = part.partition("\n")
        found.setdefault(template, []).extend(parse(rest))
    return found


@functools.cache
def _rendered(chart: str, *options: str) -> str:
    result = run_helm("template", "release", chart, "--namespace", "ns", *options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def parse(text: str) -> list[Document]:
    """Return the objects in a stream of YAML documents."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """Return the objects of one kind."""
    return [document for document in documents if document["kind"] == kind]


def pod_template(document: Document) -> Document:
    """Return the pod template (metadata and spec) of an object of one of POD_OWNERS."""
    if document["kind"] == "Pod":
        return document
    spec: Document = document["spec"]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return dict(spec["template"])


def pod_spec(document: Document) -> Document:
    """Return the pod spec of an object of one of POD_OWNERS."""
    return dict(pod_template(document)["spec"])


def pod_templates(documents: list[Document]) -> dict[str, Document]:
    """Return all pod templates by "Kind/name"."""
    return {
        f"{document['kind']}/{document['metadata']['name']}": pod_template(document)
        for document in documents
        if document["kind"] in POD_OWNERS
    }


def containers(template: Document) -> list[Document]:
    """Return all containers of a pod template, init containers first."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: Document) -> dict[str, Any]:
    """Return a container's variables by name, each as its value or what it comes from."""
    variables = container.get("env", [])
    found = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in variables}
    assert len(found) == len(variables), "duplicate names"
    return found


def values_of(scenario: str) -> Document:
    """Return the content of a values file."""
    return dict(yaml.safe_load((CHARTS / scenario).read_text()))
