"""Trivy's secret scanner, which needs no database, on folders and image archives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from aws.programs import TRIVY, program
from conftest import REPOSITORY


def secrets_in(kind: str, target: Path, scratch: Path) -> list[str]:
    """Return the secrets found, as `file:line rule`; findings accepted in .trivyignore.yaml are left out.

    Args:
        kind: `fs` for a folder, `image` for an archive of an image.
        target: What to scan.
        scratch: Where the scanner may write.
    """
    what = ["--input", str(target)] if kind == "image" else [str(target)]
    done = subprocess.run(
        [str(program(TRIVY, scratch / "trivy.log")), kind, "--scanners", "secret", "--format", "json", "--quiet",
         "--skip-version-check", "--disable-telemetry", "--cache-dir", str(scratch / "cache"),
         "--ignorefile", str(REPOSITORY / ".trivyignore.yaml"), *what],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [
        f"{result['Target']}:{secret['StartLine']} {secret['RuleID']}"
        for result in json.loads(done.stdout).get("Results") or []
        for secret in result.get("Secrets") or []
    ]
