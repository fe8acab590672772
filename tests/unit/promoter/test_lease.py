"""The Lease: one operator at a time may write, against an API server that checks resource versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from promoter.adapters import lease as module
from promoter.adapters.lease import DURATION_SECONDS, Lease, OwnPod
from promoter.adapters.rest import KubeClient
from promoter.errors import RetryableError

Document = dict[str, Any]
PATH = "/apis/coordination.k8s.io/v1/namespaces/bank/leases"


class Server:
    """Stores one Lease, and refuses writes by those who read an older one."""

    def __init__(self) -> None:
        self.stored: Document | None = None
        self.version = 0
        self.available = True
        self.written: list[str] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(f"{PATH}/{module.NAME}", self.read)
        app.router.add_post(PATH, self.write)
        app.router.add_put(f"{PATH}/{module.NAME}", self.write)
        app.router.add_post("/other", self.other)
        return app

    async def read(self, _: web.Request) -> web.Response:
        if not self.available:
            return web.json_response({"message": "etcd"}, status=503)
        return web.json_response(self.stored, status=200 if self.stored else 404)

    async def write(self, request: web.Request) -> web.Response:
        sent = await request.json()
        current = (self.stored or {"metadata": {}})["metadata"].get("resourceVersion")
        if not self.available or sent["metadata"].get("resourceVersion") != current:
            return web.json_response({"message": "changed"}, status=409 if self.available else 503)
        self.version += 1
        sent["metadata"]["resourceVersion"] = str(self.version)
        self.stored = sent
        return web.json_response(sent)

    async def other(self, request: web.Request) -> web.Response:
        self.written.append(await request.json())
        return web.json_response({})


class Clock:
    """A monotonic clock that tests move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Operators:
    """Operators that share a server and a clock."""

    def __init__(self, url: str) -> None:
        self.url, self.clock, self.clients = url, Clock(), list[KubeClient]()

    def client(self, **options: Any) -> KubeClient:
        self.clients.append(KubeClient(lambda: kopf.ConnectionInfo(server=self.url), 5, **options))
        return self.clients[-1]

    def lease(self, pod: str) -> Lease:
        return Lease(self.client(), OwnPod("bank", pod, f"uid-{pod}"), self.clock)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def operators(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operators]:
    monkeypatch.setattr(module, "RENEWAL_SECONDS", 0.01)
    async with TestServer(server.app()) as running:
        found = Operators(str(running.make_url("/")))
        yield found
        for client in found.clients:
            await client.close()


async def test_one_of_two_operators_holds_the_lease_and_the_other_stands_by(
    server: Server, operators: Operators
) -> None:
    first, second, standing_by = operators.lease("a"), operators.lease("b"), asyncio.Event()
    await first.acquire(standing_by=pytest.fail)
    waiting = asyncio.create_task(second.acquire(standing_by.set))
    await asyncio.wait_for(standing_by.wait(), 5)
    assert (first.held(), second.held()) == (True, False)
    assert server.stored
    assert server.stored["spec"]["holderIdentity"] == "a"
    assert server.stored["metadata"]["ownerReferences"][0]["uid"] == "uid-a"

    # The pod that owned the Lease is gone, and the Lease with it: nobody needs to wait until it expires.
    server.stored = None
    await asyncio.wait_for(waiting, 5)
    assert second.held()


async def test_an_operator_that_freezes_loses_the_lease_and_may_write_no_more(
    server: Server, operators: Operators
) -> None:
    frozen, next_one, standing_by = operators.lease("a"), operators.lease("b"), asyncio.Event()
    await frozen.acquire(standing_by=pytest.fail)
    writer = operators.client(may_write=frozen.held)
    await writer.request("POST", "/other", "before")

    waiting = asyncio.create_task(next_one.acquire(standing_by.set))
    await asyncio.wait_for(standing_by.wait(), 5)
    operators.clock.now += DURATION_SECONDS
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(RetryableError, match="does not hold its Lease"):
        await writer.request("POST", "/other", "after")
    assert server.written == ["before"]
    await asyncio.wait_for(frozen.keep(), 5)
    assert (frozen.held(), next_one.held()) == (False, True)
    assert server.stored
    assert server.stored["spec"]["leaseTransitions"] == 1


async def test_the_holder_stops_writing_before_another_one_may_take_over(operators: Operators) -> None:
    holder = operators.lease("a")
    await holder.acquire(standing_by=pytest.fail)
    operators.clock.now += DURATION_SECONDS - 1
    assert not holder.held()


async def test_a_restarted_container_of_the_same_pod_takes_its_lease_at_once(operators: Operators) -> None:
    await operators.lease("a").acquire(standing_by=pytest.fail)
    restarted = operators.lease("a")
    await restarted.acquire(standing_by=pytest.fail)
    assert restarted.held()


async def test_the_lease_is_kept_over_an_outage_of_the_api_server_if_nobody_took_it(
    server: Server, operators: Operators
) -> None:
    holder = operators.lease("a")
    await holder.acquire(standing_by=pytest.fail)
    kept = asyncio.create_task(holder.keep())
    server.available = False
    operators.clock.now += 600
    await asyncio.sleep(0.1)
    assert not holder.held()
    assert not kept.done()

    server.available = True
    for _ in range(500):
        if holder.held():
            break
        await asyncio.sleep(0.01)
    assert holder.held()
    kept.cancel()
    with suppress(asyncio.CancelledError):
        await kept
