"""`helm upgrade --reuse-values` from each released version: the new templates with the old values."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from charts.released_values import VERSIONS, computed_values, values_of_release
from charts.rendering import CHARTS, NAMES, Document, built_charts, helm, of_kind, parse, pod_templates, render

CASES = [
    (version, name)
    for version in VERSIONS
    for name in NAMES
    # A chart that the release did not have was not installed from it.
    if name in values_of_release(version)
]


def render_with(values: Document, chart: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Render a chart as `--reuse-values` does: the release's values take the place of the new chart's defaults.

    Its subcharts keep their new defaults. (Helm: `reuseValues` in pkg/action/upgrade.go.)
    """
    charts = folder / "charts"
    shutil.copytree(built_charts(), charts)
    (charts / chart / "values.yaml").write_text(yaml.safe_dump(values))
    return subprocess.run([helm(), "template", "release", chart, "--namespace", "ns", "--is-upgrade"],
                          cwd=charts, capture_output=True, text=True)  # fmt: skip


@pytest.mark.parametrize(("version", "chart"), CASES)
def test_the_values_of_a_released_version_render(version: str, chart: str, tmp_path: Path) -> None:
    result = render_with(values_of_release(version)[chart], chart, tmp_path)
    assert result.returncode == 0, result.stderr
    rendered = parse(result.stdout)
    # Settings that are new have their defaults: the same pods as a new installation has.
    assert set(pod_templates(rendered)) == set(pod_templates(render(f"{chart}/ci/default-values.yaml")))
    assert "null" not in {str(document["metadata"].get("namespace")) for document in of_kind(rendered, "Role")}


@pytest.mark.parametrize(
    ("old", "new", "used"), [("manual", "auto", "manual"), ("never", None, "never"), ("auto", "never", "never")]
)
def test_the_old_name_of_the_production_pointers_value_is_used_until_the_new_one_is_set(
    old: str, new: str | None, used: str, tmp_path: Path
) -> None:
    values = values_of_release("0.1.0")["training"] | {"promote": old}
    result = render_with(values if new is None else values | {"productionPointer": new}, "training", tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"--production-pointer={used}" in result.stdout


def test_the_newest_release_is_recorded(tmp_path: Path) -> None:
    """The chart's version is raised along with the file of its values: CONTRIBUTING.md, "Cut a release"."""
    version = yaml.safe_load((CHARTS / "credit-risk" / "Chart.yaml").read_text())["version"]
    assert version in VERSIONS
    shutil.copytree(built_charts(), tmp_path / "charts")
    assert set(values_of_release(version)) <= set(computed_values(tmp_path / "charts"))
