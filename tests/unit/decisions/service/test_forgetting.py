"""DELETE /v1/applicants/{id}/inputs: the applicant's data go, the decision and its proof stay."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from decisions.reading.forgetting import applicant_hash
from unit.decisions.service.site import Running, Site, key_of

JANUARY = datetime(2026, 1, 10, 12, tzinfo=UTC)


async def test_inputs_go_and_the_decision_stays(site: Site, running: Running) -> None:
    applicant = "a/1\n%ü"
    first, second = (
        site.decide(JANUARY, applicant_id=applicant),
        site.decide(datetime(2025, 3, 1, tzinfo=UTC), applicant_id=applicant),
    )
    other = site.decide(JANUARY, applicant_id="a")
    answer = await running.http.delete("/v1/applicants/a%2F1%0A%25%C3%BC/inputs", headers=key_of("privacy"))
    assert answer.json() == {"decisions": 2}
    for wanted in (first, second):
        found = (await running.get(f"/v1/decisions/{wanted}")).json()
        assert (found["forgotten"], found["applicant_id"], found["inputs"]) == (True, None, None)
        assert (found["decision"], found["log"]["hash"]) == ("approve", "01" * 32)
    assert (await running.get(f"/v1/decisions/{other}")).json()["forgotten"] is False
    again = await running.http.delete("/v1/applicants/a%2F1%0A%25%C3%BC/inputs", headers=key_of("privacy"))
    assert again.json() == {"decisions": 0}


async def test_who_asked_is_kept_and_not_about_whom(site: Site, running: Running) -> None:
    site.decide(JANUARY, applicant_id="jane-doe")
    await running.http.delete("/v1/applicants/jane-doe/inputs", headers=key_of("privacy"))
    ((salt, kept, client, decisions),) = site.sql(
        "SELECT salt, applicant_hash, requested_by, decisions FROM forgettings"
    )
    assert (client, decisions, kept) == ("privacy", 1, applicant_hash(salt, "jane-doe"))
    columns = site.sql("SELECT f::text FROM forgettings f")
    assert "jane-doe" not in columns[0][0]


REFUSED = [
    "DELETE FROM decisions", "UPDATE decisions SET points = 1", "DELETE FROM outcomes", "DROP TABLE outcomes",
    "UPDATE timeline_events SET weight = 1", "DELETE FROM forgettings", "UPDATE decision_inputs SET salt = ''",
    "TRUNCATE decision_inputs",
]  # fmt: skip


def test_the_service_s_role_can_change_nothing_else(site: Site) -> None:
    site.decide(JANUARY)
    for statement in REFUSED:
        with (
            psycopg.connect(site.settings().database_url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement)
