"""The operator judges a canary by what the decisions service finds in a real Postgres, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from jsonschema import Draft202012Validator

from conftest import REPOSITORY
from decisions.checks.model import CheckAnswer, CheckRequest
from promoter.adapters.checks import HttpChecks
from promoter.api.status import MetricResult, Phase, State, Verdict
from promoter.promotion import Promotion
from promoter.reconcile import reconcile
from unit.decisions.service.fixtures import decisions_server, site
from unit.decisions.service.process import running_process
from unit.decisions.service.site import Site, key_of
from unit.promoter.fakes import OWNER, ROLLING_OUT, document, fakes_for, in_first_step

__all__ = ["decisions_server", "site"]
CONTRACTS = REPOSITORY / "contracts"
PAIRS = 40
METRICS: list[dict[str, Any]] = [
    {"type": "EstimatedAUC"},
    {"type": "GradeCalibration", "maturedDays": 30},
    {"type": "ReasonDrift"},
    {"type": "SQL", "name": "declined", "limit": 0.5, "query": (
        "SELECT avg((decision = 'decline')::int) FROM check_decisions "
        "WHERE version = :version AND id >= check_first_id(:since)")},
]  # fmt: skip


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as found:
        yield found


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("k-operator")
    return file


async def turn(session: aiohttp.ClientSession, url: str, key: Path, metrics: list[dict[str, Any]]) -> State:
    """Let the operator take a turn in a rollout of version 2 that began an hour ago, and is to be analyzed now."""
    adapters = replace(fakes_for(ROLLING_OUT).adapters, checks=HttpChecks(session, url, key))
    began = time.time() - 3600
    state = in_first_step(step_started_at=began, steps_started_at=began, analyzed_at=began)
    promotion = Promotion(OWNER, document(analysis={"metrics": metrics, "minSamples": 20}), state)
    await reconcile(adapters, promotion)
    return promotion.state


def results(state: State) -> dict[str, MetricResult]:
    assert state.analysis
    return {result.name: result for result in state.analysis.results}


def decide(site: Site, reason: str) -> None:
    """Put decisions of the last hour into the log, and loans of version 2 that are two months old."""
    began = datetime.now(UTC) - timedelta(minutes=50)
    for number in range(PAIRS):
        at = began + timedelta(minutes=number)
        for version, role, named in (("1", "champion", "DTI_HIGH"), ("2", "canary", reason)):
            site.decide(at, probability=(number + 0.5) / PAIRS, version=version, role=role, reasons=[named],
                        decision="approve" if number % 4 else "decline")  # fmt: skip
    for number in range(20):
        old = site.decide(began - timedelta(days=60), probability=0.2, version="2", role="canary")
        site.sql("INSERT INTO outcomes VALUES (%s, %s, %s, now(), 'servicer')", old, began,
                 "repaid" if number % 5 else "defaulted")  # fmt: skip


async def test_every_check_becomes_a_verdict_with_its_numbers(
    site: Site, session: aiohttp.ClientSession, key: Path
) -> None:
    decide(site, "DTI_HIGH")
    with running_process(site.settings()) as service:
        found = results(await turn(session, service.url, key, METRICS))
    assert {result.verdict for result in found.values()} == {Verdict.INCONCLUSIVE}, "no answers are counted by pods"
    auc, grades, reasons = (found[kind] for kind in ("EstimatedAUC", "GradeCalibration", "ReasonDrift"))
    assert (auc.value, auc.samples) == (0.0, PAIRS)
    assert "if their PDs are right; the canary's newest decision in the log is " in auc.message
    assert (grades.value, grades.samples) == (0.0, 20)
    assert "4 of 20 defaulted, 4.0 expected" in grades.message
    assert reasons.value == 0.0
    for result in (auc, grades, reasons):
        assert result.lower is not None
        assert result.upper is not None
        assert result.lower <= 0 < result.upper


async def test_reasons_that_changed_end_the_rollout(site: Site, session: aiohttp.ClientSession, key: Path) -> None:
    decide(site, "SCORE_LOW")
    with running_process(site.settings()) as service:
        state = await turn(session, service.url, key, [{"type": "ReasonDrift"}])
    assert state.phase == Phase.ROLLING_BACK
    assert "drift of principal reasons 3." in state.message, "4, less what is chance"
    assert "DTI_HIGH: canary 0.0%, champion 100.0%" in state.message


async def test_sql_that_is_refused_says_why_in_the_result(
    site: Site, session: aiohttp.ClientSession, key: Path
) -> None:
    query = {**METRICS[3], "query": "SELECT count(*) FROM decision_inputs"}
    with running_process(site.settings()) as service:
        refused = results(await turn(session, service.url, key, [query]))["declined"]
    assert refused.verdict == Verdict.ERROR
    assert refused.message == (
        "declined: could not be measured: the decisions service answered 422: query was refused: permission denied "
        "for table decision_inputs"
    )
    with running_process(site.settings(checker_password_file=None)) as service:
        off = results(await turn(session, service.url, key, [METRICS[3]]))["declined"]
    assert "SQL checks are off; switch them on with the value decisions.checks.sql" in off.message


async def test_a_key_without_the_permission_and_a_service_that_is_away_are_errors(
    site: Site, session: aiohttp.ClientSession, key: Path
) -> None:
    key.write_text("k-auditor")
    with running_process(site.settings()) as service:
        lacking = results(await turn(session, service.url, key, METRICS[:1]))["EstimatedAUC"]
    away = results(await turn(session, service.url, key, METRICS[:1]))["EstimatedAUC"]
    assert lacking.verdict == away.verdict == Verdict.ERROR
    assert "403: the client auditor lacks the permission decisions:check" in lacking.message
    assert f"could not be measured: {service.url}/v1/checks: " in away.message


def test_the_contracts_request_is_answered_as_the_contract_says(site: Site) -> None:
    request = json.loads((CONTRACTS / "golden/check-request.json").read_text("utf-8"))
    answers = Draft202012Validator(json.loads((CONTRACTS / "check-answer.schema.json").read_text("utf-8")))
    site.decide(datetime.now(UTC), version="8")
    with running_process(site.settings()) as service:
        for kind in ("SQL", "EstimatedAUC", "GradeCalibration", "ReasonDrift"):
            wanted = {**request, "type": kind} if kind == "SQL" else {
                name: value for name, value in {**request, "type": kind}.items() if name != "query"
            }  # fmt: skip
            answer = httpx.post(f"{service.url}/v1/checks", json=wanted, headers=key_of("operator"))
            assert answer.status_code == 200, answer.text
            answers.validate(answer.json())


@pytest.mark.parametrize(("name", "model"), [("check-request", CheckRequest), ("check-answer", CheckAnswer)])
def test_the_schemas_are_the_services(name: str, model: type[CheckRequest | CheckAnswer]) -> None:
    schema = json.loads((CONTRACTS / f"{name}.schema.json").read_text("utf-8"))
    own = model.model_json_schema()
    assert {key: schema[key] for key in schema if key not in {"$schema", "description"}} == {
        key: value for key, value in own.items() if key != "description"
    }
