"""`kubectl promotion diff` finds in MLflow what training logged, through an address or a forwarded port."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from conftest import quick_training
from kubectl_promotion.__main__ import main
from mlflow_server import mlflow_server
from trainer.pipeline import run

pytestmark = pytest.mark.slow
NAME = "credit-risk"
TITLES = ["Versions", "Parameters", "Metrics", "Gates", "Contract", "Fairness", "Calibration"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that proxies artifacts, with versions 1 and 2, which differ in their seed."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        for seed in (0, 1):
            run(quick_training(url, tmp_path_factory.mktemp("work"), seed=seed))
        yield url


class Command:
    """`kubectl promotion` in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capture = patch, capture

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.patch.setattr(sys, "argv", ["kubectl-promotion", *arguments])
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *self.capture.readouterr()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Command(monkeypatch, capsys)


def test_versions_are_compared_in_what_training_logged(server: str, command: Command, tmp_path: Path) -> None:
    command.patch.setenv("MLFLOW_TRACKING_URI", server)
    code, out, err = command("diff", "1", "2", "--model", NAME, "-o", "json")
    assert code == 0, err
    sections = {section["title"]: section for section in json.loads(out)["sections"]}
    assert list(sections) == TITLES
    rows = {title: {row["name"]: row for row in section["rows"]} for title, section in sections.items()}
    assert (rows["Parameters"]["seed"]["before"], rows["Parameters"]["seed"]["after"]) == ("0", "1")
    assert "epochs" not in rows["Parameters"], "the same in both"
    auc = rows["Metrics"]["test_roc_auc"]
    assert auc["note"] == ("better" if auc["after"] > auc["before"] else "worse")
    gates = {name: row["after"] or row["before"] for name, row in rows["Gates"].items()}
    assert gates.pop("verdict") in {"passed", "refused"}
    assert gates
    assert all(text.startswith(("passed ", "refused ")) and " limit " in text for text in gates.values()), gates
    assert rows["Contract"]["decision_threshold"]["before"] > 0
    assert sections["Contract"]["summary"].startswith("compatible")
    assert rows["Fairness"]["gender Female adverse_impact_ratio"]["after"] > 0
    assert rows["Calibration"]["expected calibration error"]["before"] == rows["Metrics"]["test_ece"]["before"]
    code, out, err = command("diff", "1", "2", "--model", NAME, "--plots", str(tmp_path))
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines() if line.partition(":")[0] in TITLES] == TITLES
    for version in ("1", "2"):
        assert (tmp_path / f"{NAME}-{version}-calibration.png").read_bytes().startswith(b"\x89PNG")


def test_a_version_that_is_not_there_and_a_server_that_is_not_mlflow_are_named(server: str, command: Command) -> None:
    code, _, err = command("diff", "1", "99", "--model", NAME, "--tracking-uri", server)
    assert (code, err) == (3, f"MLflow has no version 99 of the model {NAME}\n")
    code, _, err = command("diff", "1", "2", "--model", NAME, "--tracking-uri", "http://127.0.0.1:1")
    assert (code, "cannot reach MLflow" in err) == (5, True)
    code, _, err = command("diff", "1", "2", "--model", NAME, "--tracking-uri", "sqlite:///x")
    assert (code, "allowed: http://HOST:PORT" in err) == (2, True)


def test_without_an_address_a_port_of_the_service_is_forwarded(server: str, command: Command, tmp_path: Path) -> None:
    forwarded = f"Forwarding from 127.0.0.1:{urlsplit(server).port} -> 5000"
    kubectl = tmp_path / "kubectl"
    # What kubectl port-forward says; the port is that of a real server.
    kubectl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho {shlex.quote(forwarded)}\nexec sleep 60\n')
    kubectl.chmod(0o755)
    command.patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    code, out, err = command("diff", "1", "2", "--model", NAME, "-n", "bank", "--context", "prod")
    assert code == 0, err
    assert "VERSION 1" in out
    assert (tmp_path / "calls").read_text().split() == [
        "port-forward", "service/mlflow", ":5000", "--address=127.0.0.1", "--namespace=bank", "--context=prod",
    ]  # fmt: skip
    kubectl.write_text("#!/bin/sh\necho 'Error from server (NotFound): services \"mlflow\" not found' >&2\nexit 1\n")
    code, _, err = command("diff", "1", "2", "--model", NAME, "-n", "bank")
    assert (code, 'services "mlflow" not found; give --tracking-uri' in err) == (3, True)
