"""Several processes train one network: real ones, with a real MLflow store, some of which are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from trainer.data.synthetic import generate
from trainer.export.served.credit_risk_model import CreditRiskModel

# Several epochs of a fraction of a second each, all of which are trained.
EPOCHS = 20
ARGUMENTS = ["--data=synthetic", "--synthetic-rows=12000", "--heads=5", "--hidden=16", "--bins=8", "--batch-rows=256"]
ARGUMENTS += [f"--epochs={EPOCHS}", f"--patience={EPOCHS}", "--maximum-ece=0.3", "--minimum-air=0", "--wait-seconds=60"]
# What the order of floating-point sums may change about a probability of default: at most, and on average.
LARGEST, MEAN = 0.02, 0.002
# `test_group.py` has the sums that processes exchange.
pytestmark = [pytest.mark.slow, pytest.mark.soak]


@dataclass
class Run:
    """A training run under `python -m trainer`, in a folder of its own."""

    folder: Path
    store: Path
    log: list[str] = field(default_factory=list)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.store}")

    @property
    def model(self) -> bytes:
        return (self.folder / "model/model.onnx").read_bytes()

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "trainer", *ARGUMENTS, f"--tracking-uri=sqlite:///{self.store}"]
        command += [f"--work-dir={self.folder}/work", f"--output={self.folder}/model", *arguments]
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            try:
                yield process
            finally:
                # The agent ends its processes with it.
                process.terminate()

    def wait_for_line(self, process: subprocess.Popen[str], part: str) -> None:
        assert process.stderr
        for line in process.stderr:
            self.log.append(line)
            if part in line:
                return
        pytest.fail(f"the log ended without {part!r}:\n{''.join(self.log)}")

    def end(self, process: subprocess.Popen[str]) -> int:
        assert process.stderr
        self.log.extend(process.stderr)
        return process.wait()

    def epochs(self) -> list[int]:
        """Return the epochs that were reported, in their order."""
        return [int(line.partition(": epoch ")[2].split()[0]) for line in self.log if ": epoch " in line]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[int, Run]:
    """The same training run by one process and by two."""
    runs = {}
    for processes in (1, 2):
        run = runs[processes] = new_run(tmp_path_factory.mktemp(f"by-{processes}"), empty_store)
        with run.started(f"--processes={processes}") as process:
            assert run.end(process) == 0, "".join(run.log)
    return runs


def new_run(folder: Path, empty_store: Path, name: str = "run") -> Run:
    if not (folder / "mlflow.db").exists():
        shutil.copyfile(empty_store, folder / "mlflow.db")
    return Run(folder / name, folder / "mlflow.db")


def ranks(launcher: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of a launcher's ranks, in their order."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text("ascii").split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_two_processes_reach_the_same_model_as_one_up_to_the_order_of_sums(undisturbed: dict[int, Run]) -> None:
    applications = generate(5_000, seed=9)
    one, two = (CreditRiskModel(run.folder / "model").predict(applications) for run in undisturbed.values())
    difference = np.abs(one - two)
    assert 0 < difference.max() < LARGEST
    assert difference.mean() < MEAN


def test_one_of_the_processes_alone_tracks_and_registers(undisturbed: dict[int, Run]) -> None:
    run = undisturbed[2]
    (version,) = run.client.search_model_versions("name = 'credit-risk'")
    (experiment,) = run.client.search_experiments(filter_string="name = 'credit-risk'")
    (tracked,) = run.client.search_runs([experiment.experiment_id])
    assert version.run_id == tracked.info.run_id
    assert tracked.info.status == "FINISHED"
    assert tracked.data.tags["processes"] == "2"
    assert run.epochs() == list(range(1, EPOCHS + 1))
    # Nothing is left to resume from.
    assert list((run.folder / "work").iterdir()) == []


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_is_started_again_and_the_run_ends_with_the_same_model(
    killed: int, undisturbed: dict[int, Run], tmp_path: Path, empty_store: Path
) -> None:
    run = new_run(tmp_path, empty_store)
    with run.started("--processes=2") as process:
        run.wait_for_line(process, ": epoch 2 of")
        os.kill(ranks(process)[killed], signal.SIGKILL)
        assert run.end(process) == 0, "".join(run.log)
    assert "resuming after epoch" in "".join(run.log)
    assert run.model == undisturbed[2].model
    assert len(run.client.search_model_versions("name = 'credit-risk'")) == 1
    (experiment,) = run.client.search_experiments(filter_string="name = 'credit-risk'")
    (tracked,) = run.client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED", "a lost process must not leave a failed run behind"


@pytest.mark.parametrize("killed", [0, 1])
def test_a_lost_pod_comes_back_and_the_run_ends_with_the_same_model(
    killed: int, undisturbed: dict[int, Run], tmp_path: Path, empty_store: Path
) -> None:
    """Pods are launchers that meet at a port. The one that comes back has lost its folder, as a new pod has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    together = ["--pods=2", f"--rendezvous=localhost:{port}"]
    pods = [new_run(tmp_path, empty_store, f"pod-{index}") for index in range(2)]
    with pods[0].started(*together, "--worker=0") as first, pods[1].started(*together, "--worker=1") as second:
        pods[0].wait_for_line(first, ": epoch 2 of")
        launchers = [first, second]
        (rank,) = ranks(launchers[killed])
        for pid in (launchers[killed].pid, rank):
            os.kill(pid, signal.SIGKILL)
        pods[killed].end(launchers[killed])
        shutil.rmtree(pods[killed].folder)
        with pods[killed].started(*together, f"--worker={killed}") as again:
            launchers[killed] = again
            codes = [pod.end(launcher) for pod, launcher in zip(pods, launchers, strict=True)]
    assert codes == [0, 0], "".join(pods[0].log + pods[1].log)
    # On this machine both have the same address, so either may lead after that, and write the model.
    assert "resuming after epoch" in "".join(pods[0].log + pods[1].log)
    (led,) = (pod for pod in pods if (pod.folder / "model").exists())
    assert led.model == undisturbed[2].model


def test_a_refused_model_ends_all_processes_with_exit_code_3_and_is_not_trained_again(
    tmp_path: Path, empty_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path, empty_store)
    with run.started("--processes=2", "--epochs=1", "--minimum-auc=1", "--json") as process:
        assert run.end(process) == 3, "".join(run.log)
    assert run.epochs() == [1]
    report = json.loads(capfd.readouterr().out)
    assert report["exit_code"] == 3
    assert "roc_auc" in report["error"]


def test_sigterm_ends_all_processes_with_exit_code_143_and_the_next_start_resumes(
    undisturbed: dict[int, Run], tmp_path: Path, empty_store: Path
) -> None:
    run = new_run(tmp_path, empty_store)
    with run.started("--processes=2") as process:
        run.wait_for_line(process, ": epoch 2 of")
        children = ranks(process)
        process.send_signal(signal.SIGTERM)
        assert run.end(process) == 128 + signal.SIGTERM
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    # By one process: how many there are is no part of what is resumed.
    with run.started() as process:
        assert run.end(process) == 0, "".join(run.log)
    assert "resuming after epoch" in "".join(run.log)
    assert sorted(set(run.epochs())) == list(range(1, EPOCHS + 1))
