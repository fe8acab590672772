"""Metrics of the decision log: what is asked when, what answers mean, and every way in which there is none."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from conftest import REPOSITORY
from promoter.adapters.checks import HttpChecks
from promoter.api.rules import InvalidSpecError, parse_spec, require_decision_log
from promoter.api.spec import DECISION_LOG, Metric, Spec
from promoter.api.status import MetricResult, Phase, Verdict
from promoter.decision.checks import request_of
from promoter.decision.judge import judge
from promoter.decision.observation import CheckAnswer
from promoter.promotion import Adapters, Promotion
from promoter.reconcile import reconcile
from unit.promoter.fakes import OWNER, ROLLING_OUT, document, fakes_for, in_first_step

CONTRACTS = REPOSITORY / "contracts"
REQUEST = Draft202012Validator(json.loads((CONTRACTS / "check-request.schema.json").read_text("utf-8")))
GOLDEN = json.loads((CONTRACTS / "golden/check-answer.json").read_text("utf-8"))
SQL = {"type": "SQL", "name": "declines", "limit": 0.1, "query": "SELECT 0.1"}
ALL: list[dict[str, Any]] = [
    {"type": "EstimatedAUC"},
    {"type": "GradeCalibration", "maturedDays": 30},
    {"type": "ReasonDrift"},
    SQL,
]


def spec_with(*metrics: dict[str, Any], **more: Any) -> Spec:
    return parse_spec({"model": {"name": "credit-risk"}, "analysis": {"metrics": list(metrics)}, **more})


def judged(answer: CheckAnswer | str, answers: float = 500, limit: float = 0.03) -> MetricResult:
    spec = spec_with({"type": "EstimatedAUC", "limit": limit})
    totals = {"canary/outcome/ok": answers}
    checks = {spec.metrics[0]: answer}
    return judge(spec, totals, shadowing=False, unreadable=[], queries={}, checks=checks)[1][0]


def found(value: float, lower: float, upper: float) -> CheckAnswer:
    return CheckAnswer("estimated AUC lower by", value, lower, upper, 412, message="canary 0.7")


@pytest.mark.parametrize(
    ("answer", "answers", "verdict", "words"),
    [
        (found(0.08, 0.04, 0.12), 500, Verdict.FAILED,
         "estimated AUC lower by 0.080 (0.040 to 0.120) > 0.03 over 412 decisions (canary 0.7)"),
        (found(0.04, 0.01, 0.05), 500, Verdict.INCONCLUSIVE, "which may be chance"),
        (found(0.01, -0.1, 0.07), 500, Verdict.INCONCLUSIVE, "passes once its upper bound is below 0.06"),
        (found(-0.01, -0.05, 0.05), 99, Verdict.INCONCLUSIVE, "99 of 100 samples in this step"),
        (found(-0.01, -0.05, 0.05), 500, Verdict.SUCCESSFUL, "lower by -0.010 (-0.050 to 0.050) <= 0.03"),
        (CheckAnswer("a", samples=7, message="the log has none"), 500, Verdict.INCONCLUSIVE,
         "EstimatedAUC: the log has none"),
        ("timed out", 500, Verdict.ERROR, "EstimatedAUC: could not be measured: timed out"),
    ],
)  # fmt: skip
def test_answers_are_judged_by_their_bounds(
    answer: CheckAnswer | str, answers: float, verdict: Verdict, words: str
) -> None:
    result = judged(answer, answers)
    assert result.verdict == verdict
    assert words in result.message


def test_bounds_are_in_the_status() -> None:
    result = judged(found(0.01, -0.02, 0.04))
    assert (result.value, result.lower, result.upper, result.samples) == (0.01, -0.02, 0.04, 412)


def test_requests_are_those_of_the_contract() -> None:
    state, spec = in_first_step(steps_started_at=1767225600.25), spec_with(*ALL)
    requests = [request_of(metric, spec, state) for metric in spec.metrics]
    for request in requests:
        REQUEST.validate(request)
        assert (request["stable"], request["canary"], request["since"]) == ("1", "2", "2026-01-01T00:00:00.250Z")
    assert [request.get("matured_days") for request in requests] == [None, 30, None, None]
    assert [request.get("query") for request in requests] == [None, None, None, "SELECT 0.1"]
    assert requests[0]["false_alarm"] == pytest.approx(0.01 / 3 * 0.8), "SQL has no share in it"


def test_a_shadow_phase_and_the_steps_after_it_share_the_chance() -> None:
    alone, shadowed = (
        request_of(spec.metrics[0], spec, in_first_step())["false_alarm"]
        for spec in (spec_with({"type": "ReasonDrift"}), spec_with({"type": "ReasonDrift"}, shadow={}))
    )
    assert shadowed == alone / 2


@pytest.mark.parametrize("metric", ALL)
def test_a_spec_that_needs_the_log_is_invalid_without_it(metric: dict[str, Any]) -> None:
    spec = spec_with({"type": "ErrorRate"}, metric)
    require_decision_log(spec, available=True)
    with pytest.raises(InvalidSpecError, match=f"{metric['type']} needs the decision log; switch it on"):
        require_decision_log(spec, available=False)
    require_decision_log(spec_with({"type": "ErrorRate"}), available=False)


@dataclass
class Service:
    """A decisions service that answers with this, and what it was asked."""

    answer: CheckAnswer | str
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def check(self, request: dict[str, Any]) -> CheckAnswer | str:
        self.asked.append(request)
        return self.answer


def with_service(answer: CheckAnswer | str) -> tuple[Adapters, Service]:
    service = Service(answer)
    return replace(fakes_for(ROLLING_OUT).adapters, checks=service), service


async def results(answer: CheckAnswer | str, *metrics: dict[str, Any]) -> tuple[MetricResult, ...]:
    """Run a turn in which an analysis is due, and return its results."""
    adapters, _ = with_service(answer)
    spec = document(analysis={"metrics": list(metrics), "interval": "10s"})
    promotion = Promotion(OWNER, spec, in_first_step(analyzed_at=time.time() - 11))
    await reconcile(adapters, promotion)
    assert promotion.state.analysis
    return promotion.state.analysis.results


async def test_the_service_is_asked_only_when_an_analysis_is_due() -> None:
    adapters, service = with_service("unused")
    spec = document(analysis={"metrics": ALL, "interval": "10s"})
    promotion = Promotion(OWNER, spec, in_first_step())
    await reconcile(adapters, promotion)
    assert service.asked == []
    promotion.state = in_first_step(analyzed_at=time.time() - 11)
    await reconcile(adapters, promotion)
    assert {request["type"] for request in service.asked} == {kind.value for kind in DECISION_LOG}


async def test_a_failed_check_ends_the_rollout_and_a_failed_query_counts() -> None:
    spec: dict[str, Any] = {"analysis": {"interval": "10s", "metrics": [{"type": "ReasonDrift"}]}}
    for metric, phase in (({"type": "ReasonDrift"}, Phase.ROLLING_BACK), (SQL, Phase.PROGRESSING)):
        adapters, _ = with_service(CheckAnswer("drift of principal reasons", 0.9, 0.5, 1.2, 300))
        spec["analysis"]["metrics"] = [metric]
        promotion = Promotion(OWNER, document(**spec), in_first_step(analyzed_at=time.time() - 11))
        await reconcile(adapters, promotion)
        assert (promotion.state.phase, promotion.state.failures) == (phase, 1)


async def test_sql_is_judged_as_a_query() -> None:
    (result,) = await results(CheckAnswer("the query", 0.2), SQL)
    assert (result.verdict, result.message) == (Verdict.FAILED, "declines: 0.2 > 0.1")
    (result,) = await results(CheckAnswer("the query", message="it returned no number"), SQL)
    assert result.verdict == Verdict.INCONCLUSIVE
    (result,) = await results("the decisions service answered 422: query was refused", SQL)
    assert result.verdict == Verdict.ERROR
    assert result.message == "declines: could not be measured: the decisions service answered 422: query was refused"


async def test_without_a_service_the_promotion_is_degraded() -> None:
    adapters, cluster, *_ = fakes_for(ROLLING_OUT)
    promotion = Promotion(OWNER, document(analysis={"metrics": ALL}), in_first_step())
    await reconcile(adapters, promotion)
    condition = next(entry for entry in promotion.state.conditions if entry.type == "Degraded")
    assert (condition.status, condition.reason) == ("True", "InvalidSpec")
    assert "EstimatedAUC, GradeCalibration, ReasonDrift, SQL needs the decision log" in condition.message
    assert "apply_route" not in cluster.calls


@dataclass
class Answers:
    """What a server answers with, and what it got."""

    url: str
    status: int = 200
    body: str = json.dumps(GOLDEN)
    key: str | None = None
    request: Any = None


@pytest.fixture
async def server() -> AsyncIterator[Answers]:
    async def answer(request: web.Request) -> web.Response:
        answers.key, answers.request = request.headers.get("Authorization"), await request.json()
        return web.Response(text=answers.body, status=answers.status)

    app = web.Application()
    app.router.add_post("/v1/checks", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    answers = Answers(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield answers
    await runner.cleanup()


async def ask(url: str, key: Path | None = None) -> CheckAnswer | str:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        return await HttpChecks(session, url + "/", key).check({"type": "EstimatedAUC"})


async def test_the_contracts_answer_is_read(server: Answers, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k-operator\n")
    assert await ask(server.url, key) == CheckAnswer(**GOLDEN)
    assert (server.key, server.request) == ("Bearer k-operator", {"type": "EstimatedAUC"})


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (422, '{"detail": "query was refused: permission denied"}',
         "the decisions service answered 422: query was refused: permission denied"),
        (403, '{"detail": "lacks decisions:check"}', "answered 403: lacks decisions:check"),
        (502, "<html>bad gateway", "answered 502: <html>bad gateway"),
        (302, "", "answered 302"),
        (200, "[]", "does not answer as a decisions service"),
        (200, '{"name": "a", "value": "much"}', "1 fields are wrong"),
    ],
)  # fmt: skip
async def test_what_is_no_answer_says_why(server: Answers, status: int, body: str, words: str) -> None:
    server.status, server.body = status, body
    answer = await ask(server.url)
    assert isinstance(answer, str)
    assert words in answer


async def test_a_service_that_is_away_and_a_key_that_is_missing_are_errors(server: Answers, tmp_path: Path) -> None:
    away = await ask("http://127.0.0.1:9")
    assert isinstance(away, str)
    assert away.startswith("http://127.0.0.1:9/v1/checks: ")
    missing = await ask(server.url, tmp_path / "absent")
    assert isinstance(missing, str)
    assert "the API key for" in missing


def test_metrics_of_one_type_are_told_apart() -> None:
    spec = spec_with({"type": "GradeCalibration"}, {"type": "GradeCalibration", "name": "early", "maturedDays": 30})
    checks: dict[Metric, CheckAnswer | str] = {spec.metrics[1]: found(0.0, -0.1, 0.01)}
    _, (late, early) = judge(
        spec, {"canary/outcome/ok": 200.0}, shadowing=False, unreadable=[], queries={}, checks=checks
    )
    assert (late.name, late.verdict) == ("GradeCalibration", Verdict.ERROR)
    assert (early.name, early.verdict) == ("early", Verdict.SUCCESSFUL)
