"""Metrics of the backups: what the store says, and that a store without an answer changes nothing else."""

from collections.abc import Callable, Sequence

import pytest

from backup.errors import BackupError
from backup.metrics import BackupMetrics


def reported(metrics: BackupMetrics) -> tuple[float | None, ...]:
    names = ("backup_last_complete_timestamp_seconds", "backup_complete_backups", "backup_store_reachable")
    return tuple(metrics.registry.get_sample_value(name) for name in names)


def unreachable() -> Sequence[str]:
    raise BackupError("no answer")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (list, (0.0, 0.0, 1.0)),
        (lambda: ["20261127T021700Z", "20261128T021700Z"], (1795832220.0, 2.0, 1.0)),
    ],
)
def test_the_newest_complete_backup_is_reported(
    ids: Callable[[], Sequence[str]], expected: tuple[float, float, float]
) -> None:
    metrics = BackupMetrics()
    metrics.update(ids)
    assert reported(metrics) == expected
    metrics.update(unreachable)
    assert reported(metrics) == (*expected[:2], 0.0)
