"""The operator as a process tells real receivers: one that is away at first, one behind a proxy, one by e-mail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from charts.tls_servers import self_signed
from processes import free_port
from smtp_server import mail_server
from unit.promoter.receivers import inbox
from unit.promoter.test_main import Backend, Operator, backend, operator

__all__ = ["backend", "operator"]
pytestmark = pytest.mark.slow
KINDS = ["RolloutStarted", "WaitingForPerson", "Promoted"]


@asynccontextmanager
async def proxy(targets: list[str], port: int) -> AsyncIterator[int]:
    """Run a proxy for CONNECT that takes every name for this host's port, and notes who was asked for."""
    open_connections = set[asyncio.Task[None]]()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        open_connections.add(task)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        targets.append(" ".join(head.split()[:2]))
        behind = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 connected\r\n\r\n")
        await asyncio.gather(copy(reader, behind[1]), copy(behind[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()
    for task in open_connections:
        task.cancel()
    await asyncio.gather(*open_connections, return_exceptions=True)


async def test_each_receiver_is_told_in_order_though_one_is_away_and_the_operator_is_killed(
    backend: Backend, operator: Operator, tmp_path: Path
) -> None:
    folder = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "ca.key")
    (tmp_path / "user").write_text("rollouts")
    (tmp_path / "password").write_text("p-4711")
    asked = list[str]()
    events_port = free_port()
    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(inbox(context))
        proxy_port = await stack.enter_async_context(proxy(asked, slack.port))
        mail = await stack.enter_async_context(mail_server(context))
        (tmp_path / "url").write_text(f"{slack.url}/services/x8Gq2")
        settings = {
            "PROMOTER_NOTIFICATIONS": json.dumps({
                "slack": {"urlFile": str(tmp_path / "url")},
                "cloudEvents": {"url": f"http://localhost:{events_port}/"},
                "email": {"host": "127.0.0.1", "port": mail.port, "from": "a@bank.test", "to": ["b@bank.test"],
                          "usernameFile": str(tmp_path / "user"), "passwordFile": str(tmp_path / "password")},
            }),
            "SSL_CERT_FILE": str(folder / "ca.crt"),
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy_port}",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "localhost",
        }  # fmt: skip
        slack.answers = [(500, {}), (429, {"Retry-After": "0"})]
        process = await operator.start(**settings)
        await operator.until("paused", lambda b: b.status.get("phase") == "Paused")
        await operator.until("told of the pause by mail", lambda _: len(mail.mails) == 2)
        # Nobody listens at the port for events, and yet the rollout and the mails go on.
        pending = [entry["kind"] for entry in backend.status["notifications"]["pending"]
                   if "cloudEvents" in entry["to"]]  # fmt: skip
        assert pending == KINDS[:2]
        process.kill()
        await process.wait()

        events = await stack.enter_async_context(inbox(port=events_port))
        process = await operator.start(**settings)
        backend.act("resume")
        await operator.until("promoted", lambda b: b.status["stableVersion"] == "2")
        await operator.until("everything is delivered", lambda b: not b.status["notifications"]["pending"])
        metrics = await read_metrics(operator)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0

    told = [event["data"]["kind"] for event in unique([request.document for request in events.taken])]
    assert told == KINDS, "each in order, whether or not it was sent twice"
    promoted = events.taken[-1].document
    assert promoted["data"]["title"] == "credit-risk: version 2 was promoted: it replaces version 1"
    assert promoted["data"]["judgment"]["verdict"] == "Successful"
    texts = list(dict.fromkeys(request.document["text"].splitlines()[0] for request in slack.taken))
    assert [text.partition("version 2 ")[2] for text in texts] == [
        "has started; version 1 is the champion*", "waits for a person: step 2/3: paused until resumed*",
        "was promoted: it replaces version 1*",
    ]  # fmt: skip
    assert {request.path for request in slack.requests} == {"/services/x8Gq2"}
    assert set(asked) == {f"CONNECT 127.0.0.1:{slack.port}"}, "only what NO_PROXY does not name goes through the proxy"
    assert len({message["Message-ID"] for _, message in mail.mails}) == 3
    assert set(mail.credentials) == {("rollouts", "p-4711", True)}
    assert 'promoter_notifications_total{outcome="delivered",receiver="cloudEvents"} 3.0' in metrics
    log = (tmp_path / "operator.log").read_text()
    assert "waiting" in log
    for text in (log, metrics, json.dumps(backend.status), json.dumps(backend.events)):
        assert "x8Gq2" not in text
        assert "p-4711" not in text


async def read_metrics(operator: Operator) -> str:
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{operator.port}/metrics") as answer:
        return await answer.text()


def unique(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that a receiver keeps that knows the ids of those it has."""
    return list({event["id"]: event for event in events}.values())
