from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubectl_promotion.__main__ import main
from unit.kubectl_promotion.api_server import ApiServer, api_server

TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credit-risk/tools/bin"


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Shell:
    """Runs commands as a shell does, in this process; kubectl is the real one."""

    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Ended:
        self.patch.setattr(sys, "argv", ["kubectl-promotion", *arguments])
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.capture.readouterr()
        assert "Traceback" not in err
        return Ended(int(ended.value.code or 0), out, err)

    def json(self, *arguments: str) -> Any:
        ended = self(*arguments, "--output", "json")
        return json.loads(ended.out)


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
    return Shell(monkeypatch, capsys)
