"""The registry's client, by what a server answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from scorer.model.identity import Identity
from scorer.model.readiness import ReadinessCode, RegistryUnavailableError
from scorer.model.registry import Registry, Version

VERSION = Version(Identity("credit-risk", "4", "run", {}, {}), "mlflow-artifacts:/1/run/artifacts/model")
REFERENCE = "training-reference.json"
PATH = f"/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model/{REFERENCE}"


@asynccontextmanager
async def registry(status: int) -> AsyncIterator[Registry]:
    """Yield a client of a server that answers so for the file."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="content", status=status)

    runner = web.AppRunner(served := web.Application())
    served.router.add_get(PATH, answer)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Registry(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("status", "found"), [(200, b"content"), (404, None), (500, None)])
async def test_a_file_that_serving_does_not_need_may_be_none(status: int, found: bytes | None) -> None:
    async with registry(status) as client:
        assert await client.fetch_other(VERSION, REFERENCE) == found


@pytest.mark.parametrize("status", [401, 403, 429, 502, 503, 504])
async def test_a_registry_that_refuses_does_not_say_that_a_file_is_none(status: int) -> None:
    async with registry(status) as client:
        with pytest.raises(RegistryUnavailableError, match=f"{PATH} answered {status}") as caught:
            await client.fetch_other(VERSION, REFERENCE)
    assert (caught.value.status, caught.value.code) == (status, ReadinessCode.REGISTRY_UNAVAILABLE)


async def test_a_registry_out_of_reach_does_not_either() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RegistryUnavailableError, match=PATH) as caught:
            await Registry(session, "http://127.0.0.1:9").fetch_other(VERSION, REFERENCE)
    assert caught.value.status is None
