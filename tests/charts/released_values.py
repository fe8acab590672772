"""The values of released charts, which `helm upgrade --reuse-values` gives to the templates of newer ones.

`python -m charts.released_values VERSION` (with tests/ in PYTHONPATH) writes those of the charts as they are.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from charts.rendering import CHARTS, Document, helm

FOLDER = Path(__file__).parent / "released"
VERSIONS = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def values_of_release(version: str) -> dict[str, Document]:
    """Return, by chart, what `helm get values --all` shows of a release without values of its own."""
    return dict(yaml.safe_load((FOLDER / f"{version}.yaml").read_text()))


def computed_values(charts: Path) -> dict[str, Document]:
    """Return each chart's values with those of its subcharts, as Helm computes them.

    Args:
        charts: A folder of charts whose dependencies are built; a template is added to each of them.
    """
    return {path.parent.name: _computed(path.parent) for path in sorted(charts.glob("*/values.yaml"))}


def _computed(chart: Path) -> Document:
    template = chart / "templates" / "computed-values.yaml"
    template.write_text("values: {{- toYaml .Values | nindent 2 }}\n")
    command = [helm(), "template", "release", str(chart), "--show-only", "templates/computed-values.yaml"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(yaml.safe_load(result.stdout)["values"])


def main() -> None:
    """Write the values of the charts as they are."""
    (version,) = sys.argv[1:]
    with TemporaryDirectory() as folder:
        charts = Path(folder) / "charts"
        shutil.copytree(CHARTS, charts)
        subprocess.run([str(charts / "build.sh")], check=True, env={"HELM": helm(), "PATH": "/usr/bin:/bin"})
        text = yaml.safe_dump(computed_values(charts))
    (FOLDER / f"{version}.yaml").write_text(text)


if __name__ == "__main__":
    main()
