"""Checks of a canary: what each one counts, what it answers with too little, and what SQL may do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from decisions.database.id_ranges import first_id
from unit.decisions.service.site import Running, Site, key_of, start, stop

# In the month of a partition, and a moment ago for the service.
NOW = datetime.now(UTC)
BEGAN = NOW - timedelta(hours=1)
REQUEST: dict[str, Any] = {
    "model": "credit-risk", "stable": "7", "canary": "8", "since": BEGAN.isoformat(), "limit": 0.05,
    "false_alarm": 0.01, "missed": 0.01, "min_samples": 20,
}  # fmt: skip


async def ask(running: Running, kind: str, client: str = "operator", **more: Any) -> httpx.Response:
    return await running.http.post("/v1/checks", json={**REQUEST, "type": kind, **more}, headers=key_of(client))


async def answer(running: Running, kind: str, **more: Any) -> dict[str, Any]:
    found = await ask(running, kind, **more)
    assert found.status_code == 200, found.text
    return dict(found.json())


def probabilities(count: int) -> Iterator[tuple[datetime, float]]:
    """Yield PDs that are spread evenly, at times within the last hour."""
    for number in range(count):
        yield BEGAN + timedelta(seconds=1 + number * 3500 / count), (number + 0.5) / count


async def test_a_canary_that_says_the_same_of_everybody_separates_worse(site: Site, running: Running) -> None:
    for at, probability in probabilities(60):
        site.decide(at, probability=probability, version="7")
        site.decide(at, probability=0.5, version="8", role="canary")
    found = await answer(running, "EstimatedAUC")
    assert found["name"] == "estimated AUC lower by"
    assert found["value"] == pytest.approx(1 / 3, abs=0.001), "PDs spread evenly promise an AUC of 5/6"
    assert 0 < found["lower"] < found["value"] < found["upper"] < 1
    assert found["samples"] == 60
    assert found["message"].startswith("canary 0.500, champion 0.833, if their PDs are right; the canary's newest")


async def test_only_single_applications_of_the_rollout_are_compared(site: Site, running: Running) -> None:
    for at, probability in probabilities(20):
        site.decide(at, probability=probability, version="7")
        site.decide(at, probability=probability, version="8", role="shadow")
        # None of these counts.
        site.decide(at, probability=0.9, version="7", endpoint="batch")
        site.decide(at, probability=0.9, version="7", role="fall-back")
        site.decide(at - timedelta(hours=2), probability=0.9, version="8", role="canary")
        site.decide(at, probability=0.9, version="6")
    found = await answer(running, "EstimatedAUC")
    assert (found["value"], found["samples"]) == (pytest.approx(0, abs=1e-9), 20)
    assert found["lower"] < 0 < found["upper"]


async def test_the_age_of_the_newest_decision_says_what_is_not_shipped_yet(site: Site, running: Running) -> None:
    found = await answer(running, "EstimatedAUC")
    assert found["value"] is None
    assert found["message"] == "the log has no decision of version 8 yet"
    site.decide(datetime.now(UTC) - timedelta(seconds=600), version="8", role="canary")
    found = await answer(running, "EstimatedAUC")
    assert found["message"].startswith("0 of 20 decisions of each version in the log; the canary's newest decision in ")
    assert 600 <= int(found["message"].split()[-3]) < 660


async def test_outcomes_replace_what_pds_promise_once_there_are_enough_of_both_kinds(
    site: Site, running: Running
) -> None:
    for version, role in (("7", "champion"), ("8", "canary")):
        for number, (at, probability) in enumerate(probabilities(60)):
            # Of the champion, the worse half defaults; of the canary, every second loan.
            bad = probability > 0.5 if version == "7" else number % 2 == 0
            decision = site.decide(at, probability=probability, version=version, role=role)
            site.sql("INSERT INTO outcomes VALUES (%s, %s, %s, now(), 'servicer')", decision, NOW,
                     "defaulted" if bad else "repaid")  # fmt: skip
    found = await answer(running, "EstimatedAUC", matured_days=365)
    assert found["name"] == "estimated AUC lower by", "none has matured"
    found = await answer(running, "EstimatedAUC", matured_days=0)
    assert (found["name"], found["samples"], found["unit"]) == ("realized AUC lower by", 60, "loans")
    assert found["value"] == pytest.approx(1 - 0.483, abs=0.001)
    assert found["lower"] > 0.05
    assert "Brier score" in found["message"]


def grant(site: Site, grade: str | None, defaulted: int, repaid: int, undecided: int = 0, pd: float = 0.1) -> None:
    """Put loans of version 8 into the log that were granted two months ago."""
    at = NOW - timedelta(days=60)
    for outcome, count in (("defaulted", defaulted), ("repaid", repaid), ("open", undecided)):
        for _ in range(count):
            decision = site.decide(at, probability=pd, version="8", role="canary", grade=grade)
            site.sql("INSERT INTO outcomes VALUES (%s, %s, %s, now(), 'servicer')", decision, NOW, outcome)


async def test_the_grade_whose_loans_default_more_often_than_it_said_is_named(site: Site, running: Running) -> None:
    site.version("8", b'{"features": [{"kind": "numeric", "name": "a"}], "grades": ['
                 b'{"name": "A", "upper_probability": 0.5}, {"name": "B", "upper_probability": 1}]}')  # fmt: skip
    grant(site, "A", defaulted=3, repaid=27)
    grant(site, "B", defaulted=20, repaid=10, undecided=2)
    found = await answer(running, "GradeCalibration", matured_days=30)
    assert found["value"] == pytest.approx(20 / 30 - 0.1, abs=1e-6)
    assert 0.1 < found["lower"] < found["value"] < found["upper"] < 0.9
    assert (found["samples"], found["unit"]) == (60, "loans")
    assert found["message"] == (
        "grade B: 20 of 30 defaulted, 3.0 expected; 2 approved and as old, but without an outcome"
    )


async def test_without_matured_outcomes_there_is_no_calibration(site: Site, running: Running) -> None:
    found = await answer(running, "GradeCalibration", matured_days=30)
    assert (found["value"], found["lower"], found["samples"]) == (None, None, 0)
    assert found["message"] == "no loan of version 8 is 30 days old and has an outcome"
    grant(site, None, defaulted=0, repaid=0, undecided=3)
    found = await answer(running, "GradeCalibration", matured_days=30)
    assert found["message"].endswith("has an outcome; 3 approved and as old, but without an outcome")
    found = await answer(running, "GradeCalibration", matured_days=90)
    assert found["message"] == "no loan of version 8 is 90 days old and has an outcome"


async def test_reasons_that_changed_are_named(site: Site, running: Running) -> None:
    for number, (at, _) in enumerate(probabilities(60)):
        site.decide(at, version="7", reasons=[["DTI_HIGH", "AMOUNT_HIGH"], ["SCORE_LOW"]][number % 2])
        site.decide(at, version="8", role="canary", reasons=[["SCORE_LOW"], []][number % 10 == 0])
        site.decide(at, version="8", role="canary", reasons=None)
    found = await answer(running, "ReasonDrift", limit=0.2)
    assert found["samples"] == 60, "those that asked for reasons"
    assert found["lower"] > 0.2
    assert found["message"].startswith("DTI_HIGH: canary 0.0%, champion 50.0%; ")


async def test_reasons_that_nobody_asked_for_cannot_drift(site: Site, running: Running) -> None:
    for at, _ in probabilities(20):
        site.decide(at, version="7", reasons=["DTI_HIGH"])
        site.decide(at, version="8", role="canary", reasons=None)
    found = await answer(running, "ReasonDrift")
    assert found["value"] is None
    assert found["message"].startswith("0 of 20 decisions of each version that name reasons (?reasons=); ")


async def test_sql_gets_its_parameters_and_returns_one_number(site: Site, running: Running) -> None:
    for at, probability in probabilities(10):
        site.decide(at, probability=probability, version="8", role="canary",
                    decision="decline" if probability > 0.5 else "approve")  # fmt: skip
    site.decide(BEGAN - timedelta(days=1), version="8", role="canary", decision="decline")
    query = """
        SELECT avg((decision = 'decline')::int)::float8  -- :not a parameter
        FROM check_decisions
        WHERE version = :version AND id >= check_first_id(:since) AND decided_at >= :since AND ':stable' <> :stable;
    """
    found = await answer(running, "SQL", query=query)
    assert (found["value"], found["lower"], found["upper"]) == (0.5, None, None)


async def test_views_agree_with_what_decisions_say(site: Site, running: Running) -> None:
    decided = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
    decision = site.decide(decided, version="8", probability=0.25)
    site.sql("INSERT INTO outcomes VALUES (%s, %s, 'repaid', now(), 'servicer')", decision, NOW)
    assert site.sql("SELECT decided_at, model, version, probability FROM check_decisions") == [
        (decided, "credit-risk", "8", 0.25)
    ]
    assert site.sql("SELECT check_first_id(%s)", decided) == [(first_id(decided),)]
    found = await answer(
        running, "SQL", query="SELECT count(*) FROM check_outcomes o JOIN check_decisions d ON d.id = o.decision_id"
    )
    assert found["value"] == 1


def test_a_query_since_a_time_reads_no_earlier_month(site: Site) -> None:
    plan = site.sql("EXPLAIN SELECT count(*) FROM check_decisions WHERE id >= check_first_id('2026-11-01 00:00Z')")
    read = {word for (line,) in plan for word in line.split() if word.startswith("decisions_20")}
    assert read == {"decisions_2026_11"}


@pytest.mark.parametrize("query", ["SELECT NULL::int", "SELECT 1 WHERE false"])
async def test_no_number_is_no_value(running: Running, query: str) -> None:
    found = await answer(running, "SQL", query=query)
    assert (found["value"], found["message"]) == (None, "it returned no number")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT :applicant", "it has the parameter :applicant; allowed are :version, :stable, :since"),
        ("SELECT 1, 2", "it returns 2 columns; allowed is one number"),
        ("SELECT 'a'", "it returns no number; allowed are integer, numeric, real and double precision: cast it"),
        ("SELECT 1 UNION ALL SELECT 2", "it returns more than one row; allowed is one number"),
        ("SELECT 'NaN'::float8", "it returns nan; allowed is a finite number"),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT 1; SELECT 2", "cannot insert multiple commands into a prepared statement"),
        ("SELECT 1) AS a; DROP TABLE decisions; --", 'syntax error at or near ")"'),
        ("SELECT count(*) FROM public.decisions", "permission denied for table decisions"),
        ("SELECT count(*) FROM public.decision_inputs", "permission denied for table decision_inputs"),
        ("DELETE FROM public.decisions RETURNING 1", "it is not a query; allowed are SELECT and VALUES"),
        ("WITH gone AS (DELETE FROM public.decisions RETURNING 1) SELECT count(*) FROM gone", "WITH clause containing"),
        ("SELECT 1 FROM set_config('role', 'decisions_service', true)", "permission denied to set role"),
        ("SELECT 1 FROM set_config('transaction_read_only', 'off', true)", "transaction read-write mode must be"),
        ("SELECT length(pg_read_file('/etc/passwd'))", "permission denied for function pg_read_file"),
        ("SELECT 1 FROM pg_sleep(60)", "it took longer than 1 s"),
        ("SELECT 1 / 0", "division by zero"),
    ],
)
async def test_what_sql_may_not_do_is_refused(site: Site, query: str, why: str) -> None:
    site.decide(BEGAN, version="8")
    running = await start(site.settings(check_seconds=1))
    found = await ask(running, "SQL", query=query)
    await stop(running)
    assert found.status_code == 422, found.text
    assert why in found.json()["detail"]
    assert site.sql("SELECT count(*) FROM decisions") == [(1,)]


async def test_sql_is_off_without_its_role(site: Site) -> None:
    running = await start(site.settings(checker_password_file=None))
    found = await ask(running, "SQL", query="SELECT 1")
    await stop(running)
    assert (found.status_code, found.json()["detail"]) == (
        409, "SQL checks are off; switch them on with the value decisions.checks.sql",
    )  # fmt: skip


async def test_a_database_that_does_not_let_the_role_in_is_no_refusal(site: Site) -> None:
    wrong = site.folder / "wrong"
    wrong.write_text("not the password")
    running = await start(site.settings(checker_password_file=wrong))
    found = await ask(running, "SQL", query="SELECT 1")
    await stop(running)
    assert found.status_code == 503


async def test_a_check_that_takes_too_long_is_ended(site: Site) -> None:
    running = await start(site.settings(check_seconds=1))
    with psycopg.connect(f"postgresql://mlflow:secret@127.0.0.1:{site.server.port}/decisions") as other:
        other.execute("LOCK TABLE model_versions IN ACCESS EXCLUSIVE MODE")
        found = await ask(running, "ReasonDrift")
    await stop(running)
    assert (found.status_code, found.json()["detail"]) == (503, "the check took longer than 1 s")


@pytest.mark.parametrize("client", ["auditor", "stranger"])
async def test_the_permission_is_needed(running: Running, client: str) -> None:
    found = await ask(running, "EstimatedAUC", client)
    assert (found.status_code, "decisions:check" in found.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "SQL"}, "the body"),
        ({"type": "ReasonDrift", "query": "SELECT 1"}, "the body"),
        ({"type": "EstimatedAUC", "since": "2026-01-01T00:00:00"}, "since"),
        ({"type": "EstimatedAUC", "false_alarm": 0}, "false_alarm"),
        ({"type": "EstimatedAUC", "weight": 5}, "weight"),
        ({"type": "Other"}, "type"),
    ],
)
async def test_wrong_requests_are_refused(running: Running, changes: dict[str, Any], field: str) -> None:
    found = await running.http.post("/v1/checks", json={**REQUEST, **changes}, headers=key_of("operator"))
    assert found.status_code == 422
    assert [entry["field"] for entry in found.json()["errors"]] == [field]
