"""The condition Drifted: what reports mean for it, and who asks for them how often."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from conftest import REPOSITORY
from promoter.adapters.drift import HttpDriftReports
from promoter.api.resource import Auc
from promoter.api.rules import parse_spec
from promoter.api.status import Phase, State
from promoter.decision.decide import decide
from promoter.decision.observation import DriftReport, DriftView, Observation, RegistryView, StableView
from promoter.decision.reports import REPORT_VALID_SECONDS, drifted_for
from promoter.drift import RETRY_SECONDS, DriftWatch
from promoter.errors import RetryableError
from promoter.promotion import Promotion
from promoter.reconcile import reconcile
from unit.promoter.fakes import OWNER, document, fakes_for

GOLDEN = json.loads((REPOSITORY / "contracts/golden/drift-status.json").read_text("utf-8"))
DAY = 86400.0
NOW = 1_779_340_000.0
SPEC = parse_spec({"model": {"name": "credit-risk"}})
FOUND = DriftReport("1", NOW - 0.2 * DAY, NOW - 0.1 * DAY, "drifted", "income is not what it was")
STEADY = replace(FOUND, verdict="steady", headline="nothing changed")
IDLE = State(phase=Phase.IDLE, stable_version="1", desired_version="1", target="scoring")
NO_ANSWER = DriftView(error="http://decisions: refused")


def after(state: State, view: DriftView | None, now: float = NOW) -> State:
    stable = StableView(True, "1", True, "t", wanted=1, available=1)
    return decide(SPEC, 1, state, Observation(RegistryView("1"), stable, drift=view), now).state


def drifted(state: State) -> tuple[str, str, str]:
    condition = state.condition("Drifted")
    assert condition
    return condition.status, condition.reason, condition.message


@pytest.mark.parametrize(
    ("view", "status", "reason", "words"),
    [
        (DriftView(FOUND), "True", "DriftFound", "income is not what it was"),
        (DriftView(STEADY), "False", "Steady", "nothing changed"),
        (DriftView(replace(FOUND, verdict="unclear")), "Unknown", "Unclear", "income"),
        (DriftView(replace(FOUND, version="7")), "Unknown", "OtherVersion", "about version 7, and version 1 is stable"),
        (DriftView(replace(FOUND, until=NOW - REPORT_VALID_SECONDS - 1)), "Unknown", "ReportOld", "ends at 2026-05-"),
        (DriftView(), "Unknown", "NoReport", "no drift report about this model"),
        (NO_ANSWER, "Unknown", "Unreachable", "refused"),
        (None, "Unknown", "NotWatched", "no decisions service"),
    ],
)
def test_the_condition_says_what_the_newest_report_found_of_the_stable_version(
    view: DriftView | None, status: str, reason: str, words: str
) -> None:
    found = drifted(after(IDLE, view))
    assert found[:2] == (status, reason)
    assert words in found[2]


def test_drift_is_no_fault_of_the_promotion() -> None:
    condition = after(IDLE, DriftView(FOUND)).condition("Degraded")
    assert condition
    assert condition.status == "False"


def test_the_last_report_stays_while_the_service_is_down_until_it_is_old() -> None:
    state = after(after(IDLE, DriftView(FOUND)), NO_ANSWER)
    assert drifted(state)[1] == "DriftFound"
    assert State.model_validate(state.to_document()).drift == state.drift, "also over a restart"
    assert drifted(after(state, NO_ANSWER, NOW + REPORT_VALID_SECONDS))[1] == "ReportOld"


def test_a_turn_with_the_same_report_changes_nothing() -> None:
    for view in (DriftView(FOUND), DriftView(), NO_ANSWER, None):
        state = after(IDLE, view)
        assert after(state, view, NOW + 60) == state


def test_drift_lasts_from_the_first_of_the_reports_that_found_it_in_a_row() -> None:
    state = after(IDLE, DriftView(FOUND))
    assert drifted_for(state, NOW) == 0
    for day in (1, 2):
        state = after(state, DriftView(replace(FOUND, until=FOUND.until + day * DAY)), NOW + day * DAY)
    assert drifted_for(state, NOW + 2 * DAY) == 2 * DAY
    assert drifted_for(state, NOW + 6 * DAY) is None, "an old report says nothing of today"
    assert drifted_for(state.model_copy(update={"stable_version": "2"}), NOW + 2 * DAY) is None, "another version"


@pytest.mark.parametrize("verdict", ["steady", "unclear"])
def test_a_report_without_drift_ends_the_row(verdict: Any) -> None:
    state = after(after(IDLE, DriftView(FOUND)), DriftView(replace(FOUND, verdict=verdict)))
    assert drifted_for(state, NOW) is None


def test_a_gap_between_reports_and_another_version_begin_the_row_anew() -> None:
    state = after(IDLE, DriftView(FOUND))
    late = replace(FOUND, until=FOUND.until + 4 * DAY)
    assert drifted_for(after(state, DriftView(late), NOW + 4 * DAY), NOW + 4 * DAY) == 0
    other = after(state, DriftView(replace(FOUND, version="2", until=FOUND.until + DAY)), NOW + DAY)
    assert other.drift
    assert other.drift.drifted_since == FOUND.until + DAY


class Reports:
    """Reports that a service has; it fails while `fault` is set."""

    def __init__(self) -> None:
        self.report: DriftReport | None = FOUND
        self.fault = False
        self.asked: list[str] = []

    async def newest(self, model: str) -> DriftReport | None:
        self.asked.append(model)
        if self.fault:
            raise RetryableError("refused")
        return self.report


class TimeIsOverError(Exception):
    """The test's time is over."""


async def watched(reports: Reports, seconds: float, at: dict[float, Callable[[], None]] | None = None) -> DriftWatch:
    """Return a watch of one model that has run for this long, asking every 300 s; `at` has what happens when."""
    now, events = 0.0, dict(at or {})

    async def sleep(pause: float) -> None:
        nonlocal now
        now += pause
        for moment in [moment for moment in events if moment <= now]:
            events.pop(moment)()
        if now > seconds:
            raise TimeIsOverError

    watch = DriftWatch(reports, lambda: ["credit-risk"], 300.0, lambda: now, sleep)
    with pytest.raises(TimeIsOverError):
        await watch.run()
    return watch


async def test_the_service_is_asked_at_the_interval_and_sooner_after_a_failure() -> None:
    reports = Reports()
    await watched(reports, 899)
    assert reports.asked == ["credit-risk"] * 3

    failing = Reports()
    failing.fault = True
    watch = await watched(failing, 2 * RETRY_SECONDS - 1)
    assert len(failing.asked) == 2
    assert watch.view("credit-risk") == DriftView(error="refused")


async def test_an_answer_is_known_until_the_next_one() -> None:
    reports = Reports()
    watch = await watched(reports, 100)
    assert watch.view("credit-risk") == DriftView(FOUND)
    assert watch.view("other").error, "not asked yet"
    assert (await watched(reports, 400, {200: lambda: setattr(reports, "report", None)})).view("credit-risk") == (
        DriftView(None))  # fmt: skip


async def test_a_turn_reads_what_the_watch_knows_and_asks_nobody() -> None:
    fakes, reports = fakes_for(), Reports()
    fakes.registry.version = "1"
    watch = await watched(reports, 1)
    adapters = replace(fakes.adapters, drift=watch, clock=lambda: NOW)
    promotion = Promotion(OWNER, document(), IDLE)
    await reconcile(adapters, promotion)
    await reconcile(adapters, promotion)
    assert drifted(promotion.state)[1] == "DriftFound"
    assert len(reports.asked) == 1


@pytest.fixture
async def service() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Return the address of a service, and what it answers with: status and body; it notes the request."""
    answer: dict[str, Any] = {"status": 200, "body": json.dumps(GOLDEN)}

    async def get(request: web.Request) -> web.Response:
        answer["path"], answer["key"] = request.raw_path, request.headers.get("Authorization")
        return web.Response(status=answer["status"], text=answer["body"])

    app = web.Application()
    app.router.add_get("/{path:.*}", get)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", answer
    await runner.cleanup()


async def newest(url: str, key: Path | None = None) -> DriftReport | None:
    async with aiohttp.ClientSession() as session:
        return await HttpDriftReports(session, url, key).newest("credit/risk")


async def test_the_contracts_answer_is_read_with_the_key(service: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    url, answer = service
    (tmp_path / "key").write_text("secret")
    report = await newest(url, tmp_path / "key")
    realized = Auc(value=0.731, lower=0.714, upper=0.748, loans=9120)
    expected = Auc(value=0.744, lower=0.729, upper=0.759, loans=11873)
    assert report == DriftReport(
        "7", 1779321600.0, 1779337023.25, "drifted", GOLDEN["headline"], realized, expected, 1840
    )
    assert (answer["path"], answer["key"]) == ("/v1/models/credit%2Frisk/drift", "Bearer secret")


async def test_no_report_is_an_answer_and_everything_else_is_none(service: tuple[str, dict[str, Any]]) -> None:
    url, answer = service
    answer["status"] = 404
    assert await newest(url) is None
    for status, body, words in (
        (403, "lacks drift:read", "answered 403: lacks"),
        (200, "[]", "not answer with"),
    ):
        answer |= {"status": status, "body": body}
        with pytest.raises(RetryableError, match=words):
            await newest(url)
    with pytest.raises(RetryableError, match=r"127\.0\.0\.1:1/v1"):
        await newest("http://127.0.0.1:1")
