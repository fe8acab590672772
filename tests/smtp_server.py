"""A mail server that keeps what it is sent: SMTP with STARTTLS, TLS from the start, and AUTH, on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class MailServer:
    """A server on 127.0.0.1.

    Attributes:
        port: Where it listens.
        answers: By command, what to answer the next times instead of the usual; "hang" for nothing.
        mails: What was sent, with the recipients.
        credentials: Each user and password that somebody logged in with, and whether that was over TLS.
        commands: All commands, in their order.
    """

    port: int = 0
    tls: ssl.SSLContext | None = None
    starttls: bool = True
    answers: dict[str, list[str]] = field(default_factory=dict)
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    credentials: list[tuple[str, str, bool]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until it leaves."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._say(writer, "CONNECT", "220 mail.test ESMTP")
            recipients: list[str] = []
            while line := (await reader.readline()).decode("ascii").strip():
                verb = line.partition(" ")[0].upper()
                self.commands.append(verb)
                if verb == "RCPT":
                    recipients.append(line.partition(":")[2].strip("<>"))
                    await self._say(writer, verb, "250 ok")
                elif verb == "DATA":
                    await self._data(reader, writer, recipients)
                elif verb == "AUTH":
                    await self._authenticate(line, writer)
                elif verb == "STARTTLS":
                    await self._say(writer, verb, "220 go ahead")
                    await writer.start_tls(self.tls or ssl.create_default_context())
                else:
                    await self._say(writer, verb, self._usual(verb, encrypted=_encrypted(writer)))
                    if verb == "QUIT":
                        break
        writer.close()

    def _usual(self, verb: str, *, encrypted: bool) -> str:
        if verb != "EHLO":
            return "221 bye" if verb == "QUIT" else "250 ok"
        offered = "250 AUTH PLAIN" if encrypted else "250 STARTTLS" if self.starttls else "250 HELP"
        return f"250-mail.test\r\n{offered}"

    async def _data(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recipients: list[str]) -> None:
        writer.write(b"354 go ahead\r\n")
        content = await reader.readuntil(b"\r\n.\r\n")
        if not self.answers.get("DATA"):
            plain = content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
            self.mails.append(([*recipients], message_from_bytes(plain, policy=policy.default)))
        recipients.clear()
        await self._say(writer, "DATA", "250 kept")

    async def _authenticate(self, line: str, writer: asyncio.StreamWriter) -> None:
        _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
        self.credentials.append((user, password, _encrypted(writer)))
        await self._say(writer, "AUTH", "235 welcome")

    async def _say(self, writer: asyncio.StreamWriter, verb: str, usual: str) -> None:
        told = self.answers.get(verb)
        answer = told.pop(0) if told else usual
        if answer == "hang":
            await asyncio.Event().wait()
        writer.write(f"{answer}\r\n".encode())
        await writer.drain()


def _encrypted(writer: asyncio.StreamWriter) -> bool:
    return writer.get_extra_info("ssl_object") is not None


@asynccontextmanager
async def mail_server(
    context: ssl.SSLContext | None = None, *, starttls: bool = True, port: int = 0
) -> AsyncIterator[MailServer]:
    """Run a mail server; with a context but without STARTTLS, it speaks TLS from the start."""
    found, connections = MailServer(tls=context, starttls=starttls), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        await found.serve(reader, writer)

    implicit = context if context and not starttls else None
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=implicit)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)
