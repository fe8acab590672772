"""What is shown while a training run is in progress."""

from __future__ import annotations

import sys

import pytest

from trainer.learning.state import EpochReport
from trainer.progress import Progress


def report(epoch: int) -> EpochReport:
    return EpochReport(epoch=epoch, epochs=10, train_loss=0.31, validation_loss=0.29, learning_rate=1e-3, seconds=2.0)


def test_a_log_gets_a_line_per_epoch_with_the_remaining_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with Progress() as progress:
        progress.show(report(0))
        progress.show(report(3))
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 1 of at most 10: training loss 0.3100, validation loss 0.2900, at most 18 s left",
        "epoch 4 of at most 10: training loss 0.3100, validation loss 0.2900, at most 12 s left",
    ]


def test_a_terminal_gets_a_progress_bar_that_counts_epochs_before_a_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress() as progress:
        progress.show(report(6))
    shown = capsys.readouterr().err
    assert "7/10" in shown
    assert "loss=0.2900" in shown
