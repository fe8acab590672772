"""GET /v1/decisions: what is said of a decision, which are found, and in what order."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from decisions.reading.decisions import Filter, list_query
from unit.decisions.service.site import Running, Site

JANUARY = datetime(2026, 1, 10, 12, tzinfo=UTC)


async def test_a_decision_is_told_with_its_model_inputs_and_proof(site: Site, running: Running) -> None:
    inputs = {"purpose": {"other": True}, "income": 0.1}
    wanted = site.decide(JANUARY, reasons=["R01", "R05"], grade="B", role="canary", inputs=inputs)
    found = (await running.get(f"/v1/decisions/{wanted}")).json()
    assert found["decided_at"] == "2026-01-10T12:00:00Z"
    assert found["model"] == {"name": "credit-risk", "version": "7", "digests": {"model.onnx": "ab" * 32}}
    assert (found["probability_of_default"], found["score_points"], found["decision"]) == (0.137, 540, "approve")
    assert (found["role"], found["grade"], found["reasons"]) == ("canary", "B", ["R01", "R05"])
    assert (found["applicant_id"], found["forgotten"], found["outcome"]) == ("a-1", False, None)
    assert list(found["inputs"].items()) == list(inputs.items())
    assert found["log"] == {"id": str(UUID(int=1)), "sequence": 1, "inputs_hash": "00" * 32,
                            "previous_hash": "00" * 32, "hash": "01" * 32}  # fmt: skip


async def test_pages_follow_one_another_newest_first_without_a_gap_or_a_repetition(
    site: Site, running: Running
) -> None:
    made = [site.decide(JANUARY + timedelta(days=day % 20)) for day in range(23)]
    seen: list[UUID] = []
    cursor: str | None = None
    while True:
        parameters: dict[str, Any] = {"limit": 5} | ({"cursor": cursor} if cursor else {})
        page = (await running.get("/v1/decisions", **parameters)).json()
        seen += [UUID(decision["decision_id"]) for decision in page["decisions"]]
        # What is decided meanwhile is newer, and does not move the pages.
        site.decide(JANUARY + timedelta(days=60))
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sorted(made, reverse=True)


async def test_filters_combine(site: Site, running: Running) -> None:
    wanted = site.decide(JANUARY, applicant_id="a/2", version="8", role="canary", request_id="r")
    site.decide(JANUARY, applicant_id="a/2", version="7", role="canary", request_id="r")
    site.decide(JANUARY, applicant_id="a/2", version="8", role="champion", request_id="r")
    site.decide(JANUARY, applicant_id="a-1", version="8", role="canary", request_id="r")
    site.decide(JANUARY, applicant_id="a/2", version="8", role="canary", request_id="other")
    site.decide(JANUARY - timedelta(days=1), applicant_id="a/2", version="8", role="canary", request_id="r")
    parameters = {"applicant_id": "a/2", "version": "8", "role": "canary", "request_id": "r"}
    page = (await running.get("/v1/decisions", **parameters, **{"from": "2026-01-10", "to": "2026-01-11"})).json()
    assert [decision["decision_id"] for decision in page["decisions"]] == [str(wanted)]


async def test_from_is_included_and_to_is_not(site: Site, running: Running) -> None:
    wanted = site.decide(JANUARY)
    for since, until, found in [
        ("2026-01-10T12:00:00Z", "2026-01-10T12:00:00.001Z", True),
        ("2026-01-10T13:00:00+01:00", "2026-02-01", True),
        ("2026-01-10T12:00:00.0005Z", "2026-02-01", False),
        ("2026-01-01", "2026-01-10T12:00:00Z", False),
    ]:
        page = (await running.get("/v1/decisions", **{"from": since, "to": until})).json()
        assert [decision["decision_id"] for decision in page["decisions"]] == ([str(wanted)] if found else [])


def test_a_time_reads_only_the_partitions_of_its_months(site: Site) -> None:
    site.decide(JANUARY)
    for wanted in (
        Filter(since=datetime(2026, 1, 5, tzinfo=UTC), until=datetime(2026, 2, 5, tzinfo=UTC)),
        Filter("a-1", since=datetime(2026, 1, 5, tzinfo=UTC), until=datetime(2026, 2, 5, tzinfo=UTC)),
        Filter(request_id="r", since=datetime(2026, 1, 5, tzinfo=UTC), until=datetime(2026, 2, 5, tzinfo=UTC)),
    ):
        query, parameters = list_query(wanted, 10)
        plan = _explained(site, query, dict(parameters))
        read = set(re.findall(r"(?:decisions|decision_inputs)_(\d{4}_\d{2})", plan))
        assert read == {"2026_01", "2026_02"}, plan


def _explained(site: Site, query: str, parameters: dict[str, object]) -> str:
    with psycopg.connect(site.settings().database_url) as connection:
        return "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}".encode(), parameters))


async def test_an_absent_decision_is_404_and_unknown_parameters_are_refused(running: Running) -> None:
    absent = await running.get(f"/v1/decisions/{UUID(int=5)}")
    assert (absent.status_code, absent.headers["content-type"]) == (404, "application/problem+json")
    assert (await running.get(f"/v1/decisions/{UUID(int=2**128 - 1)}")).status_code == 404
    # A misspelt filter must not list everybody's decisions.
    misspelt = await running.get("/v1/decisions", aplicant_id="a-1")
    assert misspelt.status_code == 422
    assert misspelt.json()["errors"][0]["field"] == "aplicant_id"
    for name, value in [("cursor", "x"), ("from", "yesterday"), ("limit", "0"), ("role", "king"), ("version", "\0")]:
        refused = await running.get("/v1/decisions", **{name: value})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, name), refused.text


async def test_a_decision_names_the_outcome_observed_last_and_keeps_all(site: Site, running: Running) -> None:
    wanted = site.decide(JANUARY)
    for outcome, observed_at in [("open", "2026-03-01"), ("repaid", "2026-05-01"), ("open", "2026-04-01")]:
        await running.report([{"decision_id": str(wanted), "outcome": outcome, "observed_at": observed_at}])
    assert (await running.get(f"/v1/decisions/{wanted}")).json()["outcome"]["outcome"] == "repaid"
    kept = (await running.get(f"/v1/decisions/{wanted}/outcomes")).json()
    assert [entry["outcome"] for entry in kept] == ["repaid", "open", "open"]
    assert {entry["reported_by"] for entry in kept} == {"servicer"}
    assert (await running.get(f"/v1/decisions/{UUID(int=5)}/outcomes")).status_code == 404
