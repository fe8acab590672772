"""`creditrisk drift` against a running service: what people and programs read, and exit codes."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from creditrisk.__main__ import main
from decisions.drift.document import DriftReport
from unit.decisions.drift.conftest import report
from unit.decisions.drift.test_service import kept
from unit.decisions.service.process import running_process
from unit.decisions.service.site import Site

__all__ = ["report"]


def test_a_report_is_shown_and_written(
    site: Site, report: DriftReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def creditrisk(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["creditrisk", *client, "drift", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    with running_process(site.settings()) as process:
        client = ("--url", process.url, "--key", "k-monitor")
        code, _, err = creditrisk("show")
        assert (code, "no drift report about the model credit-risk" in err) == (4, True)
        kept(site, report)
        code, out, _ = creditrisk("show")
        assert (code, report.headline in out, report.findings[0].what_to_do in out) == (3, True, True)
        code, out, _ = creditrisk("show", "--json")
        assert (code, json.loads(out)["drifted"]) == (3, report.drifted)
        page = tmp_path / "report.html"
        code, out, _ = creditrisk("report", "--output", str(page))
        assert (code, page.read_text("utf-8").startswith("<!doctype html>")) == (0, True)
        code, _, err = creditrisk("report", "--output", str(tmp_path / "none" / "report.json"))
        assert (code, "cannot write" in err) == (1, True)
        kept(site, report.model_copy(update={"created_at": report.created_at + timedelta(1), "verdict": "steady"}))
        assert creditrisk("show")[0] == 0
