"""Notifications by e-mail."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import smtplib
import socket
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage

from promoter.adapters.secret_files import read_secret, without
from promoter.api.resource import Owner
from promoter.api.status import Notification
from promoter.errors import PermanentError, RetryableError
from promoter.notifications.settings import EmailSettings
from promoter.notifications.text import Wording

log = logging.getLogger(__name__)
_SUBJECT_LENGTH = 200


class EmailReceiver:
    """A mail server."""

    name = "email"

    def __init__(self, settings: EmailSettings, wording: Wording, timeout_seconds: float) -> None:
        """Take the server and the addresses, how to say it, and the seconds for each step of the protocol."""
        self._settings, self._wording, self._timeout = settings, wording, timeout_seconds

    async def deliver(self, owner: Owner, notification: Notification) -> None:
        """Send an e-mail; see Receiver."""
        settings, credentials = self._settings, None
        if settings.username_file and settings.password_file:
            username = await read_secret(settings.username_file, "the mail server's user")
            credentials = username, await read_secret(settings.password_file, "the mail server's password")
        message = email_message(settings, self._wording, owner, notification)
        where, secrets = f"{settings.host}:{settings.port}", credentials or ()
        try:
            await asyncio.to_thread(self._send, message, credentials)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            words, final = _described(error)
            failure = PermanentError if final else RetryableError
            # Not with its cause: a server may repeat what it was sent.
            raise failure(f"{where} {without(words, *secrets)}") from None

    def _send(self, message: EmailMessage, credentials: tuple[str, str] | None) -> None:
        settings, name = self._settings, socket.gethostname()
        with self._connected(name) as server:
            if settings.security == "starttls":
                # Fails if the server does not offer it: nothing is sent in plain text instead.
                server.starttls(context=ssl.create_default_context())
            if credentials:
                server.login(*credentials)
            for address, (code, text) in server.send_message(message).items():
                log.warning("%s:%d refused %s: %d %r", settings.host, settings.port, address, code, text)

    def _connected(self, name: str) -> smtplib.SMTP:
        settings = self._settings
        if settings.security == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(settings.host, settings.port, name, timeout=self._timeout, context=context)
        return smtplib.SMTP(settings.host, settings.port, name, timeout=self._timeout)


def _described(error: Exception) -> tuple[str, bool]:
    """Return what went wrong, and whether it would go wrong again; SMTP's codes from 500 on say that."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = [f"{code} {_decoded(text)}" for code, text in error.recipients.values()]
        return f"refused all recipients: {answers}", all(code >= 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return f"answered {error.smtp_code}: {_decoded(error.smtp_error)}", error.smtp_code >= 500
    if isinstance(error, UnicodeError):
        return "was not asked: its user and password must be ASCII", True
    # A certificate that is not trusted is an OSError and a ValueError.
    final = isinstance(error, smtplib.SMTPNotSupportedError) or not isinstance(error, OSError)
    return f"failed: {error or type(error).__name__}", final


def _decoded(text: bytes | str) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def email_message(settings: EmailSettings, wording: Wording, owner: Owner, notification: Notification) -> EmailMessage:
    """Return the e-mail of a notification; its Message-ID is the same each time, so that repetitions can be told."""
    text, message = wording.text(owner, notification), EmailMessage()
    message["Subject"] = text.title if len(text.title) <= _SUBJECT_LENGTH else f"{text.title[: _SUBJECT_LENGTH - 1]}…"
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    message["Date"] = datetime.fromtimestamp(notification.at, UTC)
    digest = hashlib.sha256(notification.id.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{settings.sender.rpartition('@')[2].strip('> ')}>"
    # No answers by vacation programs.
    message["Auto-Submitted"] = "auto-generated"
    links = [f"{label}: {url}" for label, url in text.links.items()]
    message.set_content("\n".join([text.title, "", *text.details, *([""] if links else []), *links, ""]))
    return message
