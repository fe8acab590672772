"""Answers to requests whose bodies are still arriving."""

from __future__ import annotations

import asyncio
import contextlib

from scorer.http.asgi import Message, Receive, Scope, Send

# How long a client that has its answer may go on sending before its connection closes.
LINGER_SECONDS = 2.0
# A request has a body if it has one of these headers.
_OF_BODY = (b"content-length", b"transfer-encoding")


class Lingering:
    """Sends an answer at once, and ends it only when its request has arrived, or after LINGER_SECONDS.

    A server that closes a connection while its client is still sending resets it, and the client may never read why.
    Behind proxies that use a connection once, as nginx does by default, each early refusal would become a 502.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request's scope, and how to receive and send."""
        self._scope, self._receive, self._send = scope, receive, send
        self._unread = self._arriving = any(name in _OF_BODY for name, _ in scope["headers"])

    async def receive(self) -> Message:
        """Return the next message, and note whether it is the body's last."""
        self._unread = False
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._arriving = False
        return message

    async def send(self, message: Message) -> None:
        """Send a message; the last one waits for the rest of the request's body."""
        if message["type"] == "http.response.start":
            if self._unread and _expects_continue(self._scope):
                # The client was not told to send its body, and may not do so. Then its next request would be mistaken
                # for this one's body.
                self._arriving = False
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        elif self._arriving and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _discard(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self._arriving:
                    await self.receive()


def _expects_continue(scope: Scope) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])
