"""`python -m decisions serve` and `load-outcomes` as their containers run them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from conftest import REPOSITORY
from s3_store import s3_client
from unit.decisions.service.process import running_process
from unit.decisions.service.site import Site, environment, key_of

JANUARY = datetime(2026, 1, 10, 12, tzinfo=UTC)


def decisions(site: Site, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    found = environment(site.settings()) | {"PYTHONPATH": str(REPOSITORY / "images/decisions/src")} | variables
    return subprocess.run(
        [sys.executable, "-m", "decisions", *arguments], env=found, capture_output=True, text=True, timeout=60
    )


def test_it_serves_reports_its_metrics_and_ends_in_order(site: Site) -> None:
    wanted = site.decide(JANUARY)
    with running_process(site.settings()) as process:
        answer = httpx.get(f"{process.url}/v1/decisions/{wanted}", headers=key_of("auditor"))
        assert answer.json()["decision_id"] == str(wanted)
        metrics = httpx.get(f"{process.management_url}/metrics").text
        assert 'decisions_requests_total{route="/v1/decisions/{decision_id}",status="200"} 1.0' in metrics
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(30) == 0


def test_without_a_database_it_is_alive_and_says_why_it_is_not_ready(site: Site) -> None:
    absent = site.settings(database_url="postgresql://x@127.0.0.1:1/decisions")
    with running_process(absent, ready=False) as process:
        answer = httpx.get(f"{process.management_url}/readyz", timeout=30)
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)
        assert process.alive()


def test_bad_settings_and_usage_are_told_with_exit_code_2(site: Site, tmp_path: Path) -> None:
    for arguments, variables, words in [
        (["serve"], {"DECISIONS_DATABASE_URL": "nonsense"}, "DECISIONS_DATABASE_URL: "),
        (["serve"], {"DECISIONS_PERMISSIONS": '{"decisions:all": ["a"]}'}, "DECISIONS_PERMISSIONS"),
        (["serve"], {"DECISIONS_DATABASE_PASSWORD_FILE": str(tmp_path / "absent")}, "PASSWORD_FILE: cannot read"),
        (["sreve"], {}, "usage: python -m decisions"),
        ([], {}, "usage: python -m decisions"),
        (["load-outcomes", "x.txt"], {}, "the name must end in"),
        (["load-outcomes", str(tmp_path / "absent.csv")], {}, "cannot read the file"),
    ]:
        ended = decisions(site, *arguments, **variables)
        assert (ended.returncode, words in ended.stderr) == (2, True), ended.stderr
        assert "Traceback" not in ended.stderr
    file = tmp_path / "outcomes.csv"
    file.write_text("decision_id,outcome,observed_at\n")
    ended = decisions(site, "load-outcomes", str(file), DECISIONS_DATABASE_URL="postgresql://x@127.0.0.1:1/decisions")
    assert (ended.returncode, "the database: " in ended.stderr, "Traceback" in ended.stderr) == (1, True, False)


@pytest.fixture
def store() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
           "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    server.stop()


def test_a_file_in_s3_is_loaded_and_reported(site: Site, store: dict[str, str]) -> None:
    ids = [site.decide(JANUARY) for _ in range(3)]
    lines = [
        "decision_id,outcome,observed_at",
        *(f"{wanted},repaid,2026-05-01" for wanted in ids),
        "x,repaid,2026-05-01",
    ]
    s3 = s3_client(store)
    s3.create_bucket(Bucket="loans")
    s3.put_object(Bucket="loans", Key="may/outcomes.csv", Body="\n".join(lines).encode())
    variables = {**store, "DECISIONS_S3_ENDPOINT_URL": store["AWS_ENDPOINT_URL"]}
    ended = decisions(site, "load-outcomes", "s3://loans/may/outcomes.csv", "--json", **variables)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "added": 3, "known": 0, "rejected": 1,
        "rejected_rows": [{"row": 4, "reason": "decision_id is 'x'; allowed: a UUID"}],
    }  # fmt: skip
    again = decisions(site, "load-outcomes", "s3://loans/may/outcomes.csv", **variables)
    assert again.stdout == (
        "0 outcomes added, 3 known already, 1 rows rejected\n  row 4: decision_id is 'x'; allowed: a UUID\n"
    )
    assert {row[0] for row in site.sql("SELECT reported_by FROM outcomes")} == {"s3://loans/may/outcomes.csv"}
    absent = decisions(site, "load-outcomes", "s3://loans/absent.csv", **variables)
    assert (absent.returncode, "cannot read s3://loans/absent.csv" in absent.stderr) == (1, True)
