"""Who may ask: the guard in front of the application, API keys and OpenID Connect tokens."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from prometheus_client import CollectorRegistry

from scorer.auth import middleware as access
from scorer.auth import oidc
from scorer.auth.api_keys import ApiKeys
from scorer.auth.middleware import AccessControl, credentials
from scorer.auth.oidc import Issuer, OpenIdTokens
from scorer.http.asgi import Receive, Scope, Send, answer
from scorer.problems import Problem

KEYS = {"lender": "k-lender", "broker": "k-broker"}


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for client, key in KEYS.items():
        (tmp_path / client).write_text(f"{hashed(key)}\n")
    return tmp_path


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, repr(credentials.get({})).encode())


@contextlib.asynccontextmanager
async def client(authenticator: access.Authenticator, registry: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(AccessControl(application, authenticator, registry))
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer k-lender"}, {"authorization": "bearer  k-lender"}, {"X-API-Key": "k-lender"}]
)
async def test_a_key_opens_and_is_counted_by_its_clients_name(folder: Path, headers: dict[str, str]) -> None:
    registry = CollectorRegistry()
    async with client(ApiKeys(folder), registry) as http:
        found = await http.post("/v1/score", headers=headers)
    assert found.status_code == 200
    assert registry.get_sample_value("scorer_client_requests_total", {"client": "lender", "status": "200"}) == 1


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, ""),
        ({"Authorization": "Basic azpr"}, "invalid_request"),
        ({"Authorization": "Bearer "}, "invalid_request"),
        ({"Authorization": "Bearer k-lendes"}, "invalid_token"),
        ({"Authorization": f"Bearer {hashed('k-lender')}"}, "invalid_token"),
        ({"X-API-Key": "\xff\xfe".encode("latin-1").decode("latin-1")}, "invalid_token"),
        ({"X-API-Key": "k" * 10_000}, "invalid_token"),
    ],
)
async def test_without_a_good_key_the_answer_says_how_to_come_in(
    folder: Path, headers: dict[str, str], error: str
) -> None:
    registry = CollectorRegistry()
    async with client(ApiKeys(folder), registry) as http:
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        found = await http.post("/v1/score", headers=sent)
    assert found.status_code == 401
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["www-authenticate"].startswith("Bearer realm=")
    assert (f'error="{error}"' in found.headers["www-authenticate"]) == bool(error)
    assert registry.get_sample_value("scorer_access_denied_total", {"status": "401"}) == 1


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/page.js", "/ping", "/v2/health/ready"])
async def test_pages_without_data_are_open(folder: Path, path: str) -> None:
    async with client(ApiKeys(folder), CollectorRegistry()) as http:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/model", "/v1/score", "/invocations", "/v2/models/x/infer", "/docs/../v1"])
async def test_all_else_is_closed(folder: Path, path: str) -> None:
    async with client(ApiKeys(folder), CollectorRegistry()) as http:
        assert (await http.get(path)).status_code == 401


async def test_what_a_client_showed_is_at_hand_for_the_canary(folder: Path) -> None:
    async with client(ApiKeys(folder), CollectorRegistry()) as http:
        found = await http.get("/v1/model", headers={"X-API-Key": "k-lender"})
    assert found.text == repr({"x-api-key": "k-lender"})


async def test_keys_come_and_go_without_a_restart(folder: Path) -> None:
    keys = ApiKeys(folder)
    keeping = asyncio.create_task(keys.keep_reading(0.02))
    (folder / "lender").write_text(f"# old and new\n{hashed('k-lender')}\n{hashed('k-new')}\n")
    (folder / "broker").unlink()
    (folder / "agent").write_text(hashed("k-agent"))
    await asyncio.sleep(0.2)
    assert [await keys.identify(key) for key in ("k-lender", "k-new", "k-agent")] == ["lender", "lender", "agent"]
    with pytest.raises(Problem, match="not known"):
        await keys.identify("k-broker")
    keeping.cancel()


async def test_the_kubelets_way_of_swapping_a_folder_is_seen(tmp_path: Path) -> None:
    for name, key in (("..1", "k-1"), ("..2", "k-2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lender").write_text(hashed(key))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "lender").symlink_to("..data/lender")
    keys = ApiKeys(tmp_path)
    assert await keys.identify("k-1") == "lender"
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    keys.refresh()
    assert await keys.identify("k-2") == "lender"


async def test_a_broken_line_closes_nobody_else_out_and_a_missing_folder_everybody(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "broker").write_text("k-broker\n")
    keys = ApiKeys(folder)
    assert await keys.identify("k-lender") == "lender"
    assert "line 1 of broker is no SHA-256" in caplog.text
    assert "k-broker" not in caplog.text
    with pytest.raises(Problem):
        await ApiKeys(folder / "nowhere").identify("k-lender")


async def test_the_metrics_do_not_grow_with_every_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_CLIENTS", 2)

    class Anybody:
        async def identify(self, credential: str) -> str:
            return credential

    registry = CollectorRegistry()
    async with client(Anybody(), registry) as http:
        for name in ("a", "b", "c", "d", "a"):
            await http.get("/v1/model", headers={"X-API-Key": name})
    found = {name: registry.get_sample_value("scorer_client_requests_total", {"client": name, "status": "200"})
             for name in ("a", "b", "c", "other")}  # fmt: skip
    assert found == {"a": 2, "b": 1, "c": None, "other": 2}


class Provider:
    """An OpenID provider with keys that can be rotated."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"k1": rsa.generate_private_key(65537, 2048)}
        self.asked = 0
        self.broken = False
        self.url = ""

    async def describe(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def publish(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.broken:
            return web.Response(status=500)
        keys = []
        for name, key in self.keys.items():
            kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
            keys.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"})
        return web.json_response({"keys": [*keys, {"kty": "strange"}]})

    def token(self, kid: str = "k1", *, key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        own = {"iss": self.url, "aud": "scoring", "azp": "lender", "exp": time.time() + 60, **claims}
        signer: Any = None if algorithm == "none" else key or self.keys[kid]
        payload = {name: value for name, value in own.items() if value is not None}
        return jwt.encode(payload, signer, algorithm, headers={"kid": kid})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.describe)
    app.router.add_get("/keys", made.publish)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as made:
        yield made


async def test_a_token_names_its_client(provider: Provider, session: aiohttp.ClientSession) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    assert await tokens.identify(provider.token()) == "lender"
    assert await tokens.identify(provider.token(azp=None, sub="person")) == "person"
    assert await tokens.identify(provider.token(aud=["other", "scoring"])) == "lender"
    assert provider.asked == 1


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
async def test_a_token_that_is_not_for_us_is_refused(
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


async def test_a_new_key_is_fetched_when_it_is_met_and_no_flood_of_unknown_ones_reaches_the_issuer(
    provider: Provider, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "COOL_DOWN_SECONDS", 0.3)
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    await tokens.identify(provider.token())
    provider.keys = {"k2": ec.generate_private_key(ec.SECP256R1())}
    await asyncio.sleep(0.35)
    assert await tokens.identify(provider.token("k2", algorithm="ES256")) == "lender"
    assert provider.asked == 2
    unknown = [provider.token("k9", key=rsa.generate_private_key(65537, 2048)) for _ in range(3)] * 5
    results = await asyncio.gather(*(tokens.identify(token) for token in unknown), return_exceptions=True)
    assert {getattr(result, "status", None) for result in results} == {401}
    assert provider.asked <= 3


async def test_a_withdrawn_key_is_good_no_longer_even_for_tokens_seen_before(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring"))
    token = provider.token()
    await tokens.identify(token)
    provider.keys = {"k2": rsa.generate_private_key(65537, 2048)}
    keeping = asyncio.create_task(tokens.keep_refreshing(60))
    await asyncio.sleep(0.2)
    keeping.cancel()
    with pytest.raises(Problem, match="does not publish"):
        await tokens.identify(token)


async def test_old_keys_serve_while_the_issuer_is_away_and_without_any_it_is_a_503(
    provider: Provider, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "COOL_DOWN_SECONDS", 0.0)
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


async def test_a_scope_is_demanded_where_one_is_set(provider: Provider, session: aiohttp.ClientSession) -> None:
    tokens = OpenIdTokens(session, Issuer(provider.url, "scoring", scope="score"))
    assert await tokens.identify(provider.token(scope="read score")) == "lender"
    assert await tokens.identify(provider.token(scp=["score"])) == "lender"
    with pytest.raises(Problem) as caught:
        await tokens.identify(provider.token(scope="scores"))
    assert caught.value.status == 403
    assert 'error="insufficient_scope"' in dict(caught.value.headers)["WWW-Authenticate"]


async def test_an_issuer_that_calls_itself_otherwise_is_not_believed(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    tokens = OpenIdTokens(session, Issuer(f"{provider.url}/", "scoring"))
    with pytest.raises(Problem) as caught:
        await tokens.identify(provider.token())
    assert caught.value.status == 503
