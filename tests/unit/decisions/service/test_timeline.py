"""A model's timeline: events in any order, periods between them, repetitions, and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from conftest import REPOSITORY
from decisions.reading.timeline import TimelineEvent
from promoter.api.status import AnalysisResult, MetricResult, Verdict
from unit.decisions.service.site import Running, key_of

CONTRACTS = REPOSITORY / "contracts"
PATH = "/v1/models/credit-risk/timeline"
JUDGMENT = {"verdict": "Successful", "at": "2026-01-02T00:30:00Z", "results": [
    {"name": "error-rate", "verdict": "Successful", "value": 0.001, "limit": 0.01, "samples": 5000, "message": "0.1 %"},
]}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {"event_id": "1", "happened_at": "2026-01-01T00:00:00Z", "kind": "Promoted", "stable_version": "7", "version": "7"},
    {"event_id": "2", "happened_at": "2026-01-02T00:00:00Z", "kind": "PointerMoved", "stable_version": "7",
     "version": "8", "moved_by": "training run 4f"},
    {"event_id": "3", "happened_at": "2026-01-02T00:10:00Z", "kind": "WeightChanged", "stable_version": "7",
     "canary_version": "8", "weight": 5},
    {"event_id": "4", "happened_at": "2026-01-02T00:30:00Z", "kind": "Judged", "stable_version": "7",
     "canary_version": "8", "weight": 5, "judgment": JUDGMENT},
    {"event_id": "5", "happened_at": "2026-01-02T01:00:00Z", "kind": "Promoted", "stable_version": "8", "version": "8",
     "message": "all steps passed"},
]  # fmt: skip


async def post(running: Running, event: dict[str, Any], client: str = "operator") -> Any:
    return await running.http.post(PATH, json=event, headers=key_of(client))


async def test_periods_follow_from_events_in_whatever_order_they_come(running: Running) -> None:
    for event in EVENTS[::-1]:
        assert (await post(running, event)).status_code == 200
    found = (await running.get(PATH)).json()
    assert [event["event_id"] for event in found["events"]] == ["1", "2", "3", "4", "5"]
    assert found["complete"] is True
    periods = [
        (period["since"][5:16], period["until"] and period["until"][5:16], period["stable_version"],
         period["canary_version"], period["weight"], period["began_with"])
        for period in found["periods"]
    ]  # fmt: skip
    assert periods == [
        ("01-01T00:00", "01-02T00:10", "7", None, 0, "1"),
        ("01-02T00:10", "01-02T01:00", "7", "8", 5, "3"),
        ("01-02T01:00", None, "8", None, 0, "5"),
    ]
    assert found["events"][3]["judgment"]["results"][0]["samples"] == 5000
    assert (found["events"][1]["moved_by"], found["events"][1]["reported_by"]) == ("training run 4f", "operator")


async def test_a_part_begins_with_what_was_in_force(running: Running) -> None:
    for event in EVENTS:
        await post(running, event)
    found = (await running.get(PATH, **{"from": "2026-01-02T00:20:00Z", "to": "2026-01-02T00:40:00Z"})).json()
    assert [event["event_id"] for event in found["events"]] == ["3", "4"]
    assert (found["periods"][0]["canary_version"], found["periods"][0]["weight"]) == ("8", 5)
    first = (await running.get(PATH, limit=2)).json()
    assert ([event["event_id"] for event in first["events"]], first["complete"]) == (["1", "2"], False)


async def test_an_event_is_kept_once_and_does_not_change(running: Running) -> None:
    answers = await asyncio.gather(*(post(running, EVENTS[3]) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    # The same time in another zone is the same.
    assert (await post(running, EVENTS[3] | {"happened_at": "2026-01-02T01:30:00+01:00"})).status_code == 200
    changed = await post(running, EVENTS[3] | {"weight": 50})
    assert (changed.status_code, changed.json()["errors"][0]["field"]) == (422, "event_id")
    assert len((await running.get(PATH)).json()["events"]) == 1


async def test_unknown_models_and_bad_events_are_refused(running: Running) -> None:
    assert (await running.get("/v1/models/other/timeline")).status_code == 404
    changes: list[tuple[dict[str, Any], str]] = [
        ({"weight": 101}, "weight"), ({"kind": "Guessed"}, "kind"),
        ({"happened_at": "2026-01-01T00:00:00"}, "happened_at"),
        ({"event_id": ""}, "event_id"), ({"message": "\0"}, "message"), ({"extra": 1}, "extra"),
        ({"judgment": {"verdict": "Successful", "at": "2026-01-01T00:00:00Z",
                       "results": [{"name": "x", "verdict": "Failed", "limit": "NaN", "message": ""}]}},
         "judgment.results.0.limit"),
    ]  # fmt: skip
    for change, field in changes:
        answer = await post(running, EVENTS[0] | change)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    surrogate = json.dumps(EVENTS[0] | {"message": "\ud800"})
    headers = {**key_of("operator"), "Content-Type": "application/json"}
    assert (await running.http.post(PATH, content=surrogate, headers=headers)).status_code == 422
    nested = b"[" * 100_000
    assert (await running.http.post(PATH, content=nested, headers=headers)).status_code in {400, 422}


async def test_the_contract_s_event_is_taken_and_its_schema_is_the_service_s(running: Running) -> None:
    golden = json.loads((CONTRACTS / "golden/timeline-event.json").read_text("utf-8"))
    assert (await post(running, golden)).status_code == 200
    schema = json.loads((CONTRACTS / "timeline-event.schema.json").read_text("utf-8"))
    assert {name: schema[name] for name in schema if name not in {"$schema", "description"}} == {
        name: value for name, value in TimelineEvent.model_json_schema().items() if name != "description"
    }


async def test_the_operators_analysis_is_a_judgment(running: Running) -> None:
    """What the operator keeps of an analysis in its status can be reported as it is."""
    result = MetricResult(name="p99", verdict=Verdict.FAILED, value=1.4, lower=1.2, upper=1.6, limit=1.1, samples=7,
                          message="slow")  # fmt: skip
    analysis = AnalysisResult(verdict=Verdict.FAILED, at=1767312000.0, results=(result,))
    document = analysis.model_dump(mode="json", by_alias=True, exclude_none=True)
    answer = await post(running, EVENTS[3] | {"event_id": "operator", "judgment": document})
    assert answer.status_code == 200, answer.text
    judged = answer.json()["judgment"]["results"][0]
    assert (judged["limit"], judged["lower"], judged["upper"]) == (1.1, 1.2, 1.6)
