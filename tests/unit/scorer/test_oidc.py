"""OpenID Connect: which tokens are accepted, and how the issuer's keys are fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity_provider import Provider, identity_provider
from scorer.auth import oidc
from scorer.auth.oidc import Issuer, OpenIdTokens
from scorer.problems import Problem


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with identity_provider() as made:
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as made:
        yield made


async def test_a_token_names_its_client(provider: Provider, session: aiohttp.ClientSession) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    assert await tokens.identify(provider.token()) == "lender"
    assert await tokens.identify(provider.token(azp=None, sub="person")) == "person"
    assert await tokens.identify(provider.token(aud=["other", "scoring"])) == "lender"
    assert provider.fetches == 1


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "other"}, "Audience"),
        ({"aud": None}, "aud"),
        ({"iss": "http://elsewhere"}, "issuer"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"nbf": 9_999_999_999}, "not yet valid"),
        ({"azp": None}, "names no client"),
    ],
)
async def test_a_token_for_another_service_or_time_is_refused(
    provider: Provider, session: aiohttp.ClientSession, claims: dict[str, Any], said: str
) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    with pytest.raises(Problem, match=said) as caught:
        await tokens.identify(provider.token(**claims))
    assert caught.value.status == 401


async def test_forged_tokens_are_refused(provider: Provider, session: aiohttp.ClientSession) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    own = rsa.generate_private_key(65537, 2048)
    shared = "a secret of at least thirty-two bytes"
    forged = [provider.token(key=own), provider.token(key=shared, algorithm="HS256"),
              provider.token(algorithm="none"), "a.b.c", "", "é", provider.token()[:-4] + "AAAA"]  # fmt: skip
    for token in forged:
        with pytest.raises(Problem) as caught:
            await tokens.identify(token)
        assert caught.value.status == 401, token


async def test_a_new_key_is_fetched_on_first_use_and_unknown_keys_do_not_flood_the_issuer(
    provider: Provider, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "MIN_FETCH_INTERVAL_SECONDS", 0.0)
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    await tokens.identify(provider.token())
    provider.keys = {"k2": ec.generate_private_key(ec.SECP256R1())}
    assert await tokens.identify(provider.token("k2", algorithm="ES256")) == "lender"
    assert provider.fetches == 2
    monkeypatch.setattr(oidc, "MIN_FETCH_INTERVAL_SECONDS", 3600.0)
    unknown = [provider.token("k9", key=rsa.generate_private_key(65537, 2048)) for _ in range(3)] * 5
    results = await asyncio.gather(*(tokens.identify(token) for token in unknown), return_exceptions=True)
    assert {getattr(result, "status", None) for result in results} == {401}
    assert provider.fetches == 2


async def is_accepted(tokens: OpenIdTokens, token: str) -> bool:
    try:
        await tokens.identify(token)
    except Problem:
        return False
    return True


async def test_a_withdrawn_key_invalidates_even_tokens_that_were_accepted_before(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    token = provider.token()
    await tokens.identify(token)
    provider.keys = {"k2": rsa.generate_private_key(65537, 2048)}
    keeping = asyncio.create_task(tokens.keep_refreshing(60))
    async with asyncio.timeout(5):
        while await is_accepted(tokens, token):
            await asyncio.sleep(0.01)
    keeping.cancel()
    with pytest.raises(Problem, match="does not publish"):
        await tokens.identify(token)


async def test_the_last_keys_stay_in_use_while_the_issuer_is_down_and_without_any_it_is_a_503(
    provider: Provider, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "MIN_FETCH_INTERVAL_SECONDS", 0.0)
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    provider.broken = True
    with pytest.raises(Problem) as caught:
        await tokens.identify(provider.token())
    assert (caught.value.status, dict(caught.value.headers)["Retry-After"]) == (503, "10")
    provider.broken = False
    await tokens.identify(provider.token())
    provider.broken = True
    with pytest.raises(Problem):
        await tokens.identify(provider.token("k9", key=provider.keys["k1"]))
    assert await tokens.identify(provider.token()) == "lender"


async def test_a_configured_scope_is_required(provider: Provider, session: aiohttp.ClientSession) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring", scope="score"))
    assert await tokens.identify(provider.token(scope="read score")) == "lender"
    assert await tokens.identify(provider.token(scp=["score"])) == "lender"
    with pytest.raises(Problem) as caught:
        await tokens.identify(provider.token(scope="scores"))
    assert caught.value.status == 403
    assert 'error="insufficient_scope"' in dict(caught.value.headers)["WWW-Authenticate"]


async def test_an_issuer_whose_discovery_document_names_another_one_is_not_trusted(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    tokens = OpenIdTokens(session, Issuer(f"{provider.url}/", "scoring"))
    with pytest.raises(Problem) as caught:
        await tokens.identify(provider.token())
    assert caught.value.status == 503
