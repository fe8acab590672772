"""Who may do what, what is limited, and what is said of a database that does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from uuid import UUID

import jsonschema
import pytest

from conftest import REPOSITORY
from decisions.service import access
from unit.decisions.service.site import CLIENTS, Running, Site, key_of, start, stop

SCHEMA = json.loads((REPOSITORY / "contracts/problem.schema.json").read_text())
REQUESTS = [
    ("decisions:read", "GET", f"/v1/decisions/{UUID(int=5)}"),
    ("decisions:read", "GET", "/v1/decisions"),
    ("decisions:read", "GET", f"/v1/decisions/{UUID(int=5)}/outcomes"),
    ("decisions:read", "GET", "/v1/models/m/timeline"),
    ("decisions:read", "GET", "/v1/training-data"),
    ("drift:read", "GET", "/v1/models/m/drift"),
    ("drift:read", "GET", "/v1/models/m/drift/report"),
    ("decisions:replay", "POST", f"/v1/decisions/{UUID(int=5)}/replay"),
    ("decisions:forget", "DELETE", "/v1/applicants/a-9/inputs"),
    ("outcomes:write", "POST", "/v1/outcomes"),
    ("timeline:write", "POST", "/v1/models/m/timeline"),
]


@pytest.mark.parametrize(("permission", "method", "path"), REQUESTS)
async def test_each_request_needs_its_permission(running: Running, permission: str, method: str, path: str) -> None:
    for client, granted in CLIENTS.items():
        answer = await running.http.request(method, path, headers=key_of(client))
        if permission in granted:
            assert answer.status_code in {200, 400, 404, 422}
        else:
            assert (answer.status_code, answer.json()["detail"]) == (
                403, f"the client {client} lacks the permission {permission}"
            )  # fmt: skip
            jsonschema.validate(answer.json(), SCHEMA)
    for headers in ({}, {"Authorization": "Bearer guessed"}, {"X-API-Key": "guessed"}, {"Authorization": "Basic eDp5"}):
        answer = await running.http.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        jsonschema.validate(answer.json(), SCHEMA)


async def test_keys_are_added_and_revoked_without_a_restart(
    site: Site, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_SECONDS_BETWEEN_READS", 0.0)
    assert (await running.http.get("/v1/decisions", headers={"X-API-Key": "k-auditor"})).status_code == 200
    file = site.folder / "keys" / "auditor"
    file.write_text(f"# rotated\n{hashlib.sha256(b'k-new').hexdigest()}  # since January\nnonsense\n")
    assert (await running.http.get("/v1/decisions", headers={"X-API-Key": "k-auditor"})).status_code == 401
    assert (await running.http.get("/v1/decisions", headers={"X-API-Key": "k-new"})).status_code == 200
    file.unlink()
    assert (await running.http.get("/v1/decisions", headers={"X-API-Key": "k-new"})).status_code == 401


async def test_bodies_are_limited_and_errors_are_problems(site: Site) -> None:
    limited = await start(site.settings(max_body_bytes=2000))
    try:
        answers = [
            await limited.report(b" " * 2001),
            await limited.http.post("/v1/models/m/timeline", content=b" " * (1 << 20 | 1), headers=key_of("operator")),
            await limited.http.get("/nothing"),
            await limited.http.put("/v1/decisions"),
            await limited.report(b"{}", "text/plain"),
            await limited.report(b"x", "text/csv; charset=latin-1"),
        ]
    finally:
        await stop(limited)
    assert [answer.status_code for answer in answers] == [413, 413, 404, 405, 415, 415]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        jsonschema.validate(answer.json(), SCHEMA)


async def test_answers_carry_the_request_id_and_are_logged_without_the_applicant(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = key_of("auditor") | {"X-Request-Id": "mine-1"}
    answer = await running.http.get("/v1/decisions?applicant_id=jane-doe", headers=headers)
    assert answer.headers["x-request-id"] == "mine-1"
    (line,) = (record.getMessage() for record in caplog.records if record.name == "decisions.requests")
    assert line == "GET /v1/decisions 200 client=auditor request_id=mine-1"
    invented = await running.http.get("/v1/decisions", headers=key_of("auditor") | {"X-Request-Id": "two words"})
    assert UUID(invented.headers["x-request-id"])


async def test_a_database_that_does_not_answer_is_503_and_recovers(site: Site) -> None:
    unreachable = await start(site.settings(database_url="postgresql://x@127.0.0.1:1/decisions"))
    try:
        assert "does not answer" in await unreachable.service.database.problem()
        answer = await unreachable.get("/v1/decisions")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    finally:
        await stop(unreachable)
    running = await start(site.settings())
    try:
        assert (await running.get("/v1/decisions")).status_code == 200
        assert await running.service.database.problem() == ""
        site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'decisions-serve'")
        assert (await running.get("/v1/decisions")).status_code == 200
    finally:
        await stop(running)


async def test_a_query_that_takes_too_long_is_ended_in_words(site: Site) -> None:
    running = await start(site.settings(query_seconds=1))
    blocked = asyncio.to_thread(site.sql, "BEGIN; LOCK TABLE decisions; SELECT pg_sleep(3); COMMIT")
    task = asyncio.create_task(blocked)
    try:
        await asyncio.to_thread(site.wait_for_lock, "decisions")
        answer = await running.get("/v1/decisions")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the query took longer than 1 s; ask for a shorter time or for fewer rows"
    finally:
        await task
        await stop(running)


async def test_the_service_is_not_ready_on_an_older_schema_and_says_so(site: Site, running: Running) -> None:
    site.sql("ALTER TABLE outcomes RENAME TO hidden")
    try:
        assert "older than this version" in await running.service.database.problem()
        assert (await running.report([])).status_code == 200
        answer = await running.get(f"/v1/decisions/{UUID(int=5)}/outcomes")
        assert answer.status_code == 503
    finally:
        site.sql("ALTER TABLE hidden RENAME TO outcomes")
