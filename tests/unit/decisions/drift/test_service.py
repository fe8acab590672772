"""Reports in the database, as the service answers and measures them."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import jsonschema
import psycopg
import pytest

from conftest import REPOSITORY
from decisions.drift.document import DriftReport
from decisions.drift.kept import keep
from decisions.service.app import create_management_app
from unit.decisions.service.site import Running, Site, url_of

CONTRACTS = REPOSITORY / "contracts"


def kept(site: Site, *reports: DriftReport) -> None:
    """Keep reports as the job does, with its role."""
    with psycopg.connect(url_of(site.server, "decisions_service"), autocommit=True) as connection:
        for report in reports:
            keep(connection, report)


async def test_the_newest_report_is_answered_in_short(site: Site, running: Running, report: DriftReport) -> None:
    older = report.model_copy(update={"created_at": report.created_at - timedelta(days=1), "verdict": "steady"})
    kept(site, report, older, report)
    answer = await running.get("/v1/models/credit-risk/drift", client="monitor")
    status = answer.json()
    assert (answer.status_code, status["verdict"], status["drifted"]) == (200, "drifted", report.drifted)
    assert set(status) == set(json.loads((CONTRACTS / "golden/drift-status.json").read_text("utf-8")))
    jsonschema.validate(status, json.loads((CONTRACTS / "drift-status.schema.json").read_text("utf-8")))


async def test_the_short_answer_has_the_auc_of_the_reports_version(
    site: Site, running: Running, report: DriftReport
) -> None:
    (found,) = [of.realized for of in report.performance if of.version == report.version]
    assert found
    assert found.auc
    kept(site, report)
    status = (await running.get("/v1/models/credit-risk/drift", client="monitor")).json()
    assert status["realized_auc"] == {
        "value": pytest.approx(found.auc.value), "lower": pytest.approx(found.auc.lower),
        "upper": pytest.approx(found.auc.upper), "loans": found.loans,
    }  # fmt: skip
    assert report.performance[0].expected
    expected = report.performance[0].expected.auc
    assert expected
    assert (status["expected_auc"]["lower"], status["expected_auc"]["upper"]) == (expected.lower, expected.upper)
    without = report.model_copy(update={"performance": [], "new_outcomes": 7})
    assert (without.status.realized_auc, without.status.expected_auc, without.status.new_outcomes) == (None, None, 7)


async def test_all_of_it_is_a_page_or_json(site: Site, running: Running, report: DriftReport) -> None:
    kept(site, report)
    page = await running.get("/v1/models/credit-risk/drift/report")
    assert page.headers["content-type"].startswith("text/html")
    assert report.headline in page.text
    answer = await running.get("/v1/models/credit-risk/drift/report", format="json")
    assert DriftReport.model_validate_json(answer.text) == report


async def test_a_model_without_a_report_is_not_found(running: Running) -> None:
    answer = await running.get("/v1/models/other/drift")
    assert (answer.status_code, "no drift report" in answer.json()["detail"]) == (404, True)


async def test_metrics_are_those_of_the_newest_report(site: Site, running: Running, report: DriftReport) -> None:
    transport = httpx.ASGITransport(create_management_app(running.service))
    async with httpx.AsyncClient(transport=transport, base_url="http://decisions") as management:
        assert "decisions_drift_psi{" not in (await management.get("/metrics")).text
        kept(site, report)
        text = (await management.get("/metrics")).text
        assert f'decisions_drift_drifted{{model="credit-risk",version="{report.version}"}} 1.0' in text
        assert 'decisions_drift_psi{characteristic="income",model="credit-risk"}' in text
        assert 'kind="realized"' in text
        later = report.model_copy(update={
            "created_at": report.created_at + timedelta(days=1), "verdict": "steady", "version": "9", "features": [],
        })  # fmt: skip
        kept(site, later)
        text = (await management.get("/metrics")).text
        assert 'decisions_drift_drifted{model="credit-risk",version="9"} 0.0' in text
        assert 'characteristic="income"' not in text, "what the newest report does not have is gone"
        site.sql("ALTER TABLE drift_reports RENAME TO hidden")
        try:
            assert (await management.get("/metrics")).text.count("decisions_drift_psi{") == text.count(
                "decisions_drift_psi{"
            )
        finally:
            site.sql("ALTER TABLE hidden RENAME TO drift_reports")


async def test_a_reader_may_not_write_reports(site: Site, report: DriftReport) -> None:
    with psycopg.connect(url_of(site.server, "decisions_reader"), autocommit=True) as connection, \
            pytest.raises(psycopg.errors.InsufficientPrivilege):  # fmt: skip
        keep(connection, report)
