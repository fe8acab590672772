"""Clients with tokens of an OpenID provider beside those with keys, each with its own permissions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from identity_provider import Provider, identity_provider
from unit.decisions.service.site import Running, Site, key_of, start, stop


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with identity_provider() as made:
        yield made


@pytest.fixture
async def running(site: Site, provider: Provider) -> AsyncIterator[Running]:
    settings = site.settings(
        oidc_issuer=provider.url, oidc_audience="scoring",
        permissions={"decisions:read": frozenset({"oidc:lender", "auditor"})},
    )  # fmt: skip
    service = await start(settings)
    tokens = service.service.access.tokens
    assert tokens
    await tokens.open()
    yield service
    await tokens.close()
    await stop(service)


async def read(running: Running, headers: dict[str, str]) -> tuple[int, str]:
    answer = await running.http.get("/v1/decisions", headers=headers)
    return answer.status_code, answer.json().get("detail", "")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_s_client_has_the_permissions_of_its_name(running: Running, provider: Provider) -> None:
    assert (await read(running, bearer(provider.token())))[0] == 200
    assert await read(running, bearer(provider.token(azp="somebody"))) == (
        403, "the client oidc:somebody lacks the permission decisions:read"
    )  # fmt: skip


async def test_keys_are_still_accepted_and_are_not_those_of_a_token_s_client(
    running: Running, provider: Provider
) -> None:
    assert (await read(running, key_of("auditor")))[0] == 200
    # A token that calls its client as a key's is called has none of its permissions.
    assert (await read(running, bearer(provider.token(azp="auditor"))))[0] == 403
    assert (await read(running, {"X-API-Key": provider.token()}))[0] == 401


@pytest.mark.parametrize("claims", [{"aud": "other"}, {"exp": 1}, {"iss": "http://elsewhere"}, {"azp": None}])
async def test_other_tokens_are_refused(running: Running, provider: Provider, claims: dict[str, Any]) -> None:
    status, detail = await read(running, bearer(provider.token(**claims)))
    assert (status, "token" in detail) == (401, True)


async def test_an_issuer_that_does_not_answer_is_503(site: Site, provider: Provider) -> None:
    provider.broken = True
    service = await start(site.settings(oidc_issuer=provider.url, oidc_audience="scoring"))
    tokens = service.service.access.tokens
    assert tokens
    await tokens.open()
    answer = await service.http.get("/v1/decisions", headers=bearer(provider.token()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert (await service.get("/v1/decisions", client="auditor")).status_code == 200
    await tokens.close()
    await stop(service)


@pytest.mark.parametrize("changes", [{"oidc_issuer": "https://id"}, {"oidc_audience": "scoring"}])
def test_an_issuer_without_an_audience_is_refused(site: Site, changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="must be set if DECISIONS_OIDC_ISSUER is"):
        site.settings(**changes)
