"""What several kinds of tests share: a small trained model, and loans to train and score with."""

from __future__ import annotations

import fcntl
import gc
import os
from pathlib import Path

import boto3
import hypothesis
import mlflow
import pandas as pd
import pytest
import torch

from trainer.data.synthetic import generate
from trainer.evaluation.gates import GateLimits
from trainer.learning.hyperparameters import Hyperparameters
from trainer.pipeline import run
from trainer.settings import Settings

# `make test` uses the first, `make test-soak` the second. No deadlines: a busy machine is no reason to fail.
# A busy machine is slow at making examples, too.
_patient = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("quick", _patient, max_examples=40)
hypothesis.settings.register_profile("thorough", _patient, max_examples=200)

# Imported libraries are a million long-lived objects: scanning them for cycles took a quarter of the tests' time.
gc.set_threshold(100_000)

REPOSITORY = Path(__file__).resolve().parents[1]
# Real loans in the format of Kaggle's Playground S5E11, if the variable LOANS names a file of them.
REAL_LOANS = Path(os.environ["LOANS"]).resolve() if os.environ.get("LOANS") else None
GENERATED_ROWS = 20_000


def pytest_configure() -> None:
    """Refuse a wrong LOANS before any test runs."""
    if REAL_LOANS and not REAL_LOANS.is_file():
        raise pytest.UsageError(f"LOANS={REAL_LOANS}: no such file; unset it to test with generated loans")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests failed with that were run once more (Makefile)."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("_", f"first run of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_unconfigure() -> None:
    """Skip the scan for cycles at exit, too."""
    gc.freeze()


def read_loans(rows: int) -> pd.DataFrame:
    """Return the first real loans, or generated ones if LOANS is not set."""
    return pd.read_csv(REAL_LOANS, nrows=rows) if REAL_LOANS else generate(rows, seed=4)


@pytest.fixture(autouse=True)
def _own_s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test's environment decide: boto3's default session keeps the credentials that it saw first."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture(scope="session")
def loans_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of loans to train on: the one LOANS names, or generated loans."""
    if REAL_LOANS:
        return REAL_LOANS
    file = tmp_path_factory.mktemp("loans") / "loans.csv"
    generate(GENERATED_ROWS, seed=0).to_csv(file, index=False)
    return file


def quick_training(tracking_uri: str, folder: Path, *, seed: int = 0) -> Settings:
    """Return settings of a run of a few seconds, with limits that such a small model can meet."""
    torch.set_num_threads(1)
    return Settings(
        data="synthetic",
        tracking_uri=tracking_uri,
        synthetic_rows=3_000,
        seed=seed,
        work_dir=folder,
        hyperparameters=Hyperparameters(heads=5, hidden=(16,), bins=8, batch_rows=64, epochs=6, learning_rate=0.01),
        limits=GateLimits(maximum_ece=0.2, minimum_air=0.0, margin=0.5),
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The files of a registered version, trained once and shared by all pytest-xdist workers."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    files = shared / "trained"
    with (shared / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not files.exists():
            _train(tmp_path_factory.mktemp("training"), files)
    return files


def _train(folder: Path, files: Path) -> None:
    tracking = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        version = run(quick_training(tracking, folder / "work")).version
        uri = f"models:/credit-risk/{version}"
        Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=tracking)).rename(files)
