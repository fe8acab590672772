"""An MLflow server as a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import REPOSITORY
from processes import free_port
from trainer.tracking.registry import wait_for_server

# What the image has on its path, with the module that every process runs first.
MLFLOW_IMAGE = REPOSITORY / "images/mlflow/src"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a server that proxies artifacts and keeps everything in a folder, for the duration of the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONPATH": str(MLFLOW_IMAGE)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        wait_for_server(url, timeout_seconds=120)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
