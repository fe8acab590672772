#!/usr/bin/env python3
"""Fail on known vulnerabilities of high or critical severity that have a fix, in the locks and in local images.

Trivy downloads its database, so this needs access to the Internet. Accepted findings, each with a reason and a date on
which it expires, stand in .trivyignore.yaml.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "cluster" / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from aws.programs import TRIVY, program
from localcluster.paths import REPOSITORY as ROOT

SEVERE = ["--scanners", "vuln", "--severity", "HIGH,CRITICAL", "--ignore-unfixed", "--exit-code", "1",
          "--ignorefile", str(ROOT / ".trivyignore.yaml"), "--disable-telemetry", "--skip-version-check"]  # fmt: skip


def main() -> int:
    """Scan the locks, and the images named as arguments; return 1 if anything was found or could not be scanned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", help="references of images in the local Docker")
    images = parser.parse_args().images
    with TemporaryDirectory() as scratch:
        trivy = str(program(TRIVY, Path(scratch) / "trivy.log"))
    locks = [trivy, "fs", *SEVERE, "--file-patterns", r"pip:requirements/.*\.txt", str(ROOT / "requirements")]
    commands = [locks, *([trivy, "image", *SEVERE, image] for image in images)]
    return max(subprocess.run(command).returncode for command in commands) and 1


if __name__ == "__main__":
    sys.exit(main())
