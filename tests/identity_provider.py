"""An OpenID provider on loopback, for tests of those who check its tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa


class Provider:
    """An OpenID provider with keys that can be rotated."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"k1": rsa.generate_private_key(65537, 2048)}
        self.fetches = 0
        self.broken = False
        self.url = ""

    async def describe(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def publish(self, _: web.Request) -> web.Response:
        self.fetches += 1
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


@asynccontextmanager
async def identity_provider() -> AsyncIterator[Provider]:
    """Run a provider."""
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
