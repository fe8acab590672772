"""Server-sent events: each topic has one newest event, which is rendered once for all who follow it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import web

from promoter.page.html import Html

# Changes within this time are one event.
GATHER_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
# A client that has not taken what was sent for this long is disconnected.
SLOW_SECONDS = 10.0
# The header of nginx keeps it from gathering the answer.
EVENTS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
# Tells a page that what it shows was deleted, so that it does not connect again.
GONE = b"event: gone\ndata:\n\n"


@dataclass(frozen=True)
class Event:
    """A rendered state of a topic; the number differs for each, also after a restart of the operator."""

    number: str
    body: bytes


class Topic:
    """What a page follows. Only the newest state counts, so nothing is queued for anybody."""

    def __init__(self, picture: Callable[[], Html], gather_seconds: float = GATHER_SECONDS) -> None:
        """Take what draws the present state, in markup without line breaks that matter."""
        self.picture, self._gather_seconds = picture, gather_seconds
        self._start, self._count = secrets.token_hex(4), 1
        self._event: Event | None = None
        self._due: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Event] = set()
        self.ended = self.deleted = False

    @property
    def followers(self) -> int:
        """Return how many clients wait for a change."""
        return len(self._waiting)

    @property
    def number(self) -> str:
        """Return the number of the newest event."""
        return f"{self._start}-{self._count}"

    def newest(self) -> Event:
        """Return the newest event; it is rendered if nobody has asked for it yet."""
        if self._event is None or self._event.number != self.number:
            self._event = Event(self.number, encoded(self.number, self.picture()))
        return self._event

    def touch(self) -> None:
        """Note a change; those who follow get it soon, together with others."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._gather_seconds, self._announce)

    def end(self, *, deleted: bool = False) -> None:
        """Let all who follow go, because the operator stops, or because what they follow was deleted."""
        self.ended, self.deleted = True, deleted
        if self._due:
            self._due.cancel()
        self._wake()

    @contextlib.contextmanager
    def followed(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at each change."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            yield changed
        finally:
            self._waiting.discard(changed)

    def _announce(self) -> None:
        self._due = None
        self._count += 1
        self._wake()

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()


def encoded(number: str, markup: str) -> bytes:
    """Return an event in the format of the HTML standard (9.2.5)."""
    lines = "".join(f"data: {line}\n" for line in markup.replace("\r", "").split("\n"))
    return f"id: {number}\n{lines}\n".encode()


class Streams:
    """Sends topics to a bounded number of clients."""

    def __init__(
        self, most: int, heartbeat_seconds: float = HEARTBEAT_SECONDS, slow_seconds: float = SLOW_SECONDS
    ) -> None:
        """Take how many clients there may be, and the seconds between heartbeats and until a slow one is dropped."""
        self._most, self._heartbeat_seconds, self._slow_seconds = most, heartbeat_seconds, slow_seconds
        self.clients = 0

    async def send(self, request: web.Request, topic: Topic, admitted: Callable[[], bool]) -> web.StreamResponse:
        """Send a topic until it ends, the client leaves, is too slow, or is not admitted any more."""
        if self.clients >= self._most:
            return web.Response(
                status=503, headers={"Retry-After": "10"}, text=f"{self._most} browsers follow already; the page works "
                "without following: reload it")  # fmt: skip
        self.clients += 1
        try:
            return await self._send(request, topic, admitted)
        finally:
            self.clients -= 1

    async def _send(self, request: web.Request, topic: Topic, admitted: Callable[[], bool]) -> web.StreamResponse:
        response = web.StreamResponse(headers=EVENTS)
        try:
            await response.prepare(request)
            _drop_dead_peers(request, self._slow_seconds)
            await self._follow(response, topic, request.headers.get("Last-Event-ID", ""), admitted)
        except (ConnectionResetError, TimeoutError):
            # What was written waits for a client that does not take it: the end of the answer would wait, too.
            if request.transport:
                request.transport.abort()
        return response

    async def _follow(
        self, response: web.StreamResponse, topic: Topic, sent: str, admitted: Callable[[], bool]
    ) -> None:
        """Write events and heartbeats; `sent` is the number of the event that the client has."""
        with topic.followed() as changed:
            while not topic.ended and admitted():
                changed.clear()
                if topic.number != sent:
                    newest = topic.newest()
                    await self._write(response, newest.body)
                    sent = newest.number
                elif not await _set_within(changed, self._heartbeat_seconds):
                    await self._write(response, b": still here\n\n")
            if topic.deleted:
                await self._write(response, GONE)

    async def _write(self, response: web.StreamResponse, body: bytes) -> None:
        async with asyncio.timeout(self._slow_seconds):
            await response.write(body)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    # Not wait_for: until Python 3.12, it loses a cancellation that comes together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False


def _drop_dead_peers(request: web.Request, seconds: float) -> None:
    """Let the kernel give up a peer that acknowledges nothing; by default that takes a quarter of an hour."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * seconds))
