from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_promotion.__main__ import main
from shell import Shell
from unit.kubectl_promotion.api_server import ApiServer, api_server

TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credit-risk/tools/bin"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """An API server that kubectl knows by its kubeconfig."""
    monkeypatch.setenv("PATH", f"{TOOLS}:{os.environ['PATH']}")
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: run `make tools`")
    # kubectl keeps what it discovered there.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with api_server() as found:
        monkeypatch.setenv("KUBECONFIG", str(found.write_kubeconfig(tmp_path / "kubeconfig")))
        yield found


@pytest.fixture
def promotion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command `kubectl promotion`."""
    return Shell(monkeypatch, capsys, "kubectl-promotion", main, ("--output", "json"))
