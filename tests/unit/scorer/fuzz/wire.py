"""HTTP/1.1 by hand: requests as bytes, broken ones included, and answers read as strictly as a proxy would."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 60


class BrokenAnswerError(AssertionError):
    """Bytes that are no HTTP answer, or an answer that ended early."""


@dataclass(frozen=True)
class Answer:
    """One answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Request:
    """A request in its parts."""

    method: str
    target: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def head(self, *lines: str, version: str = "HTTP/1.1") -> bytes:
        """Return the head with lines added."""
        own = [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([f"{self.method} {self.target} {version}", "Host: scoring", *own, *lines, "", ""]).encode(
            "latin-1", "replace"
        )

    def encode(self, *lines: str) -> bytes:
        """Return the whole request."""
        return self.head(f"Content-Length: {len(self.body)}", *lines) + self.body

    def chunked(self, sizes: list[int], extension: str = "", trailer: str = "") -> bytes:
        """Return the whole request in chunks of these sizes; the last chunk takes the rest."""
        pieces, at = [self.head("Transfer-Encoding: chunked")], 0
        for size in [*sizes, len(self.body)]:
            if piece := self.body[at : at + size]:
                pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece))
            at += size
        return b"".join([*pieces, b"0\r\n", trailer.encode(), b"\r\n"])


class Connection:
    """One connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    async def ask(self, request: Request) -> Answer:
        """Send a whole request and return its answer."""
        self.send(request.encode())
        return await self.answer(head_only=request.method == "HEAD")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> Answer:
        """Return the next answer, interim ones left out.

        Raises:
            BrokenAnswerError: when there is none, or it is no HTTP.
            ConnectionError: when the connection was reset.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                found = await self._answer(head_only=head_only)
                if found.status >= 200:
                    return found

    async def _answer(self, *, head_only: bool) -> Answer:
        try:
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, status, *_ = lines[0].split(" ")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
            if not version.startswith("HTTP/1."):
                raise BrokenAnswerError(lines[0])
            bodiless = head_only or status.startswith("1") or status == "204"
            body = b"" if bodiless else await self._body(headers)
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise BrokenAnswerError(f"no answer: {error!r} {getattr(error, 'partial', b'')[:200]!r}") from error
        return Answer(int(status), headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers["content-length"]))
        pieces = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            pieces.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(pieces)

    async def rest(self) -> bytes:
        """Return what comes until the service closes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.read()

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Close with a reset instead of a FIN."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()
