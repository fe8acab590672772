"""Workers of a hyperparameter search that share one study: who begins when, and who tries what."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import mlflow
import optuna
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from localcluster.console import wait_for
from trainer.errors import TrackingError
from trainer.learning import search as module
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.search import search
from trainer.learning.state import EpochReport

STUDY = "study"


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.02)


@dataclass
class Search:
    """A search of four trials by two workers."""

    storage: str
    parent_run: str
    tried: list[int] = field(default_factory=list)
    wait_seconds: float = 60

    def work(self, worker: int, before: Callable[[], object] = str) -> Hyperparameters:
        """Run a worker; its trials call `before` and then end."""

        def objective(_: Hyperparameters, on_epoch: Callable[[EpochReport], None]) -> float:
            before()
            on_epoch(EpochReport(1, epochs=1, train_loss=0.5, validation_loss=0.5, learning_rate=0.1, seconds=0.1))
            self.tried.append(worker)
            return 0.5

        return search(
            objective,
            Hyperparameters(),
            trials=4,
            study_name=STUDY,
            storage_url=self.storage,
            seed=0,
            worker=worker,
            workers=2,
            parent_run=self.parent_run if worker == 0 else None,
            wait_seconds=self.wait_seconds,
        )

    def not_present(self, worker: int) -> str | None:
        """Return why a worker does not take part yet, None if it does."""
        try:
            attributes = optuna.load_study(study_name=STUDY, storage=self.storage).user_attrs
        except (KeyError, IntegrityError, OperationalError):
            # Both create the tables of a new database, and one of them comes second.
            return "there is no study"
        return None if f"worker_{worker}" in attributes else "it has not joined"


@pytest.fixture
def searching(tracking_uri: str, tmp_path: Path) -> Search:
    mlflow.set_tracking_uri(tracking_uri)
    # The experiment of an earlier test in this process is not in this store.
    mlflow.set_experiment(experiment_id="0")
    return Search(f"sqlite:///{tmp_path}/study.db", mlflow.MlflowClient().create_run("0").info.run_id)


def test_a_worker_that_is_slow_to_start_and_slow_to_work_still_gets_a_trial(searching: Search) -> None:
    first_is_done = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(searching.work, 0)
        wait_for("worker 0", partial(searching.not_present, 0), timeout_seconds=60)
        assert searching.tried == []
        second = pool.submit(searching.work, 1, lambda: first_is_done.wait(60))
        first.result()
        first_is_done.set()
        second.result()
    # Worker 1's trial had begun before the study was complete.
    assert searching.tried == [0, 0, 0, 0, 1]


def test_a_worker_begins_alone_if_the_cluster_has_no_room_for_the_others(
    searching: Search, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_OTHERS_START_SECONDS", 0.0)
    searching.work(0)
    assert searching.tried == [0, 0, 0, 0]
    assert "beginning with 1 of 2 workers" in caplog.text
    searching.work(1)
    assert searching.tried == [0, 0, 0, 0], "the study was complete"


def test_a_database_that_fails_for_a_moment_costs_the_trial_in_progress_and_not_the_search(
    searching: Search, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_OTHERS_START_SECONDS", 0.0)
    faults = iter([True, False, True])

    def fail_sometimes() -> None:
        if next(faults, False):
            raise OperationalError("INSERT", {}, Exception("session is read-only"))

    searching.work(0, fail_sometimes)
    assert searching.tried == [0, 0, 0, 0]
    assert caplog.text.count("the study's database failed, trying again") == 2
    assert "session is read-only" in caplog.text


def test_a_database_that_stays_away_ends_the_search_with_its_error(
    searching: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OTHERS_START_SECONDS", 0.0)
    searching.wait_seconds = 0.1

    def fail() -> None:
        raise OperationalError("INSERT", {}, Exception("session is read-only"))

    with pytest.raises(TrackingError, match=r"the study's database failed: .*session is read-only"):
        searching.work(0, fail)
    assert searching.tried == []
