"""`diff`: two versions of a model side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import find
from kubectl_promotion.cluster.registry import DEFAULT_SERVICE, Mlflow, ModelVersion, mlflow
from kubectl_promotion.completion_sources import complete_names
from kubectl_promotion.errors import FAILED, NOT_FOUND, USAGE, CommandError
from kubectl_promotion.options import Output, with_cluster
from kubectl_promotion.views.output import Format, plain, table, write, write_document
from kubectl_promotion.words.comparison import Row, Section, compare, to_document

_PLOT = "calibration.png"


@with_cluster
def diff(
    kubectl: Kubectl,
    before: Annotated[str | None, typer.Argument(
        metavar="[A]", help="Version. Default: the stable one.", show_default=False)] = None,
    after: Annotated[str | None, typer.Argument(
        metavar="[B]", help="Version. Default: the canary's, or the one that the pointer names.",
        show_default=False)] = None,
    promotion: Annotated[str | None, typer.Option(
        "--promotion", "-p", help="Whose model. Default: the only one in the namespace.",
        autocompletion=complete_names)] = None,
    model: Annotated[str | None, typer.Option(help="Registered model, instead of a ModelPromotion's.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(
        envvar="MLFLOW_TRACKING_URI", help="MLflow's address. Default: a port-forward of --service.")] = None,
    service: Annotated[str | None, typer.Option(
        metavar="NAME:PORT", help=f"MLflow's Service. Default: {DEFAULT_SERVICE}.")] = None,
    plots: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="Save both versions' calibration plots there.")] = None,
    output: Output = Format.TEXT,
) -> None:  # fmt: skip
    """Compare two versions: parameters, metrics, gates, contract, fairness, calibration."""
    name, old, new = _chosen(kubectl, before, after, promotion, model)
    with mlflow(kubectl, tracking_uri, service) as registry:
        versions = registry.version(name, old), registry.version(name, new)
        saved = _save_plots(registry, versions, plots) if plots else []
    sections = compare(*versions)
    if output != Format.TEXT:
        write_document(to_document(*versions, sections), output)
        return
    for section in sections:
        _write(section, f"VERSION {old}", f"VERSION {new}")
    for path in saved:
        write(f"saved {path}")


def _chosen(
    kubectl: Kubectl, before: str | None, after: str | None, promotion: str | None, model: str | None
) -> tuple[str, str, str]:
    """Return the model and two versions; what was not given comes from the ModelPromotion."""
    if model is not None and before and after:
        return model, before, after
    if model is not None:
        raise CommandError("--model needs two versions: diff A B --model MODEL", USAGE)
    found = find(kubectl, promotion)
    if found.spec is None:
        raise CommandError(f"the spec of {found.name} is invalid, so its model is not known: {found.parsed_spec}; "
                           "give --model", FAILED)  # fmt: skip
    state = found.state
    old = before or state.stable_version
    new = after or state.canary_version or state.desired_version
    if old is None or new is None or (old == new and not (before and after)):
        raise CommandError(f"{found.name} has one version alone ({old or new or 'none'}): name two", NOT_FOUND)
    return found.spec.model.name, old, new


def _save_plots(registry: Mlflow, versions: tuple[ModelVersion, ModelVersion], folder: Path) -> list[Path]:
    saved = []
    for version in versions:
        content = registry.artifact(version.artifacts, f"plots/{_PLOT}") if version.artifacts else None
        if content is None:
            raise CommandError(f"version {version.version} has no plots/{_PLOT} that MLflow serves", NOT_FOUND)
        path = folder / f"{version.model}-{version.version}-{_PLOT}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise CommandError(f"--plots: {error}", FAILED) from error
        saved.append(path)
    return saved


def _write(section: Section, old: str, new: str) -> None:
    summary = f": {plain(section.summary)}" if section.summary else ""
    write(Text.assemble((section.title, "bold"), summary))
    if section.rows:
        write(table(("", old, new, ""), map(_cells, section.rows)))
    write("")


def _cells(row: Row) -> tuple[object, ...]:
    color = {"better": "green", "worse": "red"}.get(row.note, "yellow" if row.note else "")
    return row.name, _cell(row.before), _cell(row.after), Text(plain(row.note) if row.note else "", style=color)


def _cell(value: str | float | None) -> str:
    return plain(f"{value:.4g}" if isinstance(value, float) else value)
