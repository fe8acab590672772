"""`lint`: check ModelPromotions before they are applied, without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kubectl_promotion.errors import NOT_FOUND, REFUSED, CommandError
from kubectl_promotion.options import Output
from kubectl_promotion.views import marks
from kubectl_promotion.views.output import Format, write, write_document
from kubectl_promotion.words.lint import Finding, lint_text

_STDIN = Path("-")


def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML or JSON; - for stdin.")],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    requests_per_second: Annotated[float | None, typer.Option(
        min=0, help="Of all clients together; tells whether minSamples can be reached in time.")] = None,
    output: Output = Format.TEXT,
) -> None:  # fmt: skip
    """Check ModelPromotions in files: the rules of the cluster, and what works but hardly as meant."""
    found = [(file, name, findings) for file in files for name, findings in _findings(file, requests_per_second)]
    if not found:
        raise CommandError(f"no ModelPromotion in {', '.join(map(str, files))}", NOT_FOUND)
    if output != Format.TEXT:
        write_document([
            {"file": str(file), "name": name, "findings": [finding.to_document() for finding in findings]}
            for file, name, findings in found
        ], output)  # fmt: skip
    else:
        for file, name, findings in found:
            _write(file, name, findings)
    severities = {finding.severity for _, _, findings in found for finding in findings}
    raise typer.Exit(REFUSED if "error" in severities or (strict and severities) else 0)


def _findings(file: Path, requests_per_second: float | None) -> list[tuple[str, list[Finding]]]:
    try:
        text = sys.stdin.read() if file == _STDIN else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: {error}", NOT_FOUND) from error
    try:
        return lint_text(text, requests_per_second=requests_per_second)
    except ValueError as error:
        return [("-", [Finding("error", "file", str(error))])]


def _write(file: Path, name: str, findings: list[Finding]) -> None:
    if not findings:
        write(marks.mark("✔", "green", f"{file}: {name}: nothing to mend"))
    for finding in findings:
        sign, color = ("✖", "red") if finding.severity == "error" else ("!", "yellow")
        write(marks.mark(sign, color, f"{file}: {name}: {finding.severity}: {finding.where}: {finding.message}"))
