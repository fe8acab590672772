"""The table of open ports in docs/security.md, which tests compare with manifests and running pods."""

from __future__ import annotations

import re

from conftest import REPOSITORY

_ROW = re.compile(r"^\| (?P<part>[a-z0-9]+) \| (?P<port>\d+) \| (?P<reached>[^|]*) \|", re.MULTILINE)


def documented_ports() -> dict[tuple[str, int], str]:
    """Return by chart and container port what leads there: Services and Ingresses, as the table says."""
    text = (REPOSITORY / "docs/security.md").read_text(encoding="utf-8")
    found = {(row["part"], int(row["port"])): row["reached"].strip() for row in _ROW.finditer(text)}
    assert found, "docs/security.md has no table of ports"
    return found
