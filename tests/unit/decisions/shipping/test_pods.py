"""Several pods at once: each ships its own, and a request id that two of them answered names two decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter, event, singles
from unit.decisions.shipping.proof import assert_each_once
from unit.decisions.shipping.running import Running


def together(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_request_id_of_two_pods_names_two_decisions(database: DecisionsDatabase, tmp_path: Path) -> None:
    """As when a stable pod answers what the canary did too late, or a client repeats itself."""
    pods = ["scoring-a", "scoring-b"]
    logs = [LogWriter(tmp_path / pod, pod) for pod in pods]
    shippers = [Running(tmp_path / pod, database.url, pod=pod) for pod in pods]
    for number in range(20):
        for log in logs:
            log.write(event(request_id="the same"), singles(3), event(2, request_id=f"repeated {number}"))
    together(*(shipper.turn for shipper in shippers))
    assert_each_once(database, *logs)
    rows = [row for row in database.records() if row.request_id == "the same"]
    assert [row.pod for row in sorted(rows, key=lambda row: row.pod)] == ["scoring-a"] * 20 + ["scoring-b"] * 20
    for shipper in shippers:
        shipper.stop()
    for log in logs:
        log.close()


def test_pods_on_one_volume_ship_at_once_and_take_over_each_others_logs(
    database: DecisionsDatabase, tmp_path: Path
) -> None:
    logs = [LogWriter(tmp_path, pod) for pod in ("scoring-a", "scoring-b", "scoring-c")]
    for log in logs:
        log.write(*(singles(20) for _ in range(10)))
        log.rotate()
        log.write(singles(5))
    logs[2].die()
    shippers = [Running(tmp_path, database.url, pod=pod) for pod in ("scoring-a", "scoring-b")]
    together(*(shipper.turn for shipper in shippers))
    assert_each_once(database, *logs)
    assert not logs[2].path.exists()
    for shipper in shippers:
        shipper.stop()
    for log in logs[:2]:
        log.close()
