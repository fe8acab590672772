"""Receivers of notifications over HTTP: Slack-compatible incoming webhooks, and CloudEvents."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import yarl

from promoter.adapters.secret_files import read_secret, without
from promoter.api.resource import Owner
from promoter.api.status import Notification
from promoter.errors import BusyError, PermanentError, RetryableError
from promoter.notifications.settings import CloudEventsSettings, SlackSettings
from promoter.notifications.text import Text, Wording, cloud_event

_DETAIL_BYTES = 300
# Too early, too many requests, or a server that could not answer in time.
_LATER = {408, 425, 429}
# Slack cuts longer texts.
_SLACK_LENGTH = 3000
# In headers, the HTTP binding of CloudEvents percent-encodes all but these.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


class SlackReceiver:
    """An incoming webhook of Slack, Mattermost, Rocket.Chat, or another that takes Slack's format."""

    name = "slack"

    def __init__(self, session: aiohttp.ClientSession, settings: SlackSettings, wording: Wording) -> None:
        """Take a session (its timeouts and proxies apply), where the webhook is, and how to say it."""
        self._session, self._settings, self._wording = session, settings, wording

    async def deliver(self, owner: Owner, notification: Notification) -> None:
        """Post a message; see Receiver."""
        url = _checked_url(await read_secret(self._settings.url_file, "the webhook's URL"), self.name)
        body = {"text": slack_text(self._wording.text(owner, notification))}
        await _post(self._session, url, json.dumps(body).encode(), {"Content-Type": "application/json"})


class CloudEventsReceiver:
    """An endpoint that takes CloudEvents 1.0 over HTTP, in structured or in binary mode."""

    name = "cloudEvents"

    def __init__(self, session: aiohttp.ClientSession, settings: CloudEventsSettings, wording: Wording) -> None:
        """Take a session (its timeouts and proxies apply), where the endpoint is, and how to say it."""
        self._session, self._settings, self._wording = session, settings, wording

    async def deliver(self, owner: Owner, notification: Notification) -> None:
        """Post an event; see Receiver."""
        settings = self._settings
        address = await read_secret(settings.url_file, "the events' URL") if settings.url_file else settings.url
        url = _checked_url(address, self.name)
        token = await read_secret(settings.token_file, "the token for events") if settings.token_file else ""
        if not token.isascii():
            raise RetryableError(f"{settings.token_file} does not hold a token: only printable ASCII is allowed")
        body, headers = encoded(cloud_event(self._wording, owner, notification), binary=settings.mode == "binary")
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        await _post(self._session, url, body, headers | authorization, token)


def encoded(event: Mapping[str, Any], *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a CloudEvent, by the HTTP protocol binding 1.0."""
    if not binary:
        return json.dumps(event).encode(), {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    attributes = {key: str(value) for key, value in event.items() if key not in {"data", "datacontenttype"}}
    headers = {f"ce-{key}": quote(value, safe=_PLAIN) for key, value in attributes.items()}
    return json.dumps(event["data"]).encode(), {"Content-Type": str(event["datacontenttype"]), **headers}


def slack_text(text: Text) -> str:
    """Return a text in Slack's markup, which others understand too."""
    links = [f"<{_escaped(url)}|{label}>" for label, url in text.links.items()]
    lines = [f"*{_escaped(text.title)}*", *map(_escaped, text.details)]
    # Not in the middle of a link.
    return "\n".join(["\n".join(lines)[:_SLACK_LENGTH], *([" · ".join(links)] if links else [])])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _checked_url(text: str, receiver: str) -> yarl.URL:
    try:
        url = yarl.URL(text)
    except ValueError:
        url = yarl.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        # Not the text itself: it is a secret.
        raise RetryableError(f"{receiver}: what is configured is not a URL that begins with https:// or http://")
    return url


async def _post(
    session: aiohttp.ClientSession, url: yarl.URL, body: bytes, headers: Mapping[str, str], *secrets: str
) -> None:
    """Send a body; errors name the host alone, because the rest of an address may be a secret.

    Raises:
        BusyError, RetryableError, PermanentError: see Receiver.
    """
    where = str(url.origin())
    secrets = (str(url), url.raw_path_qs if len(url.raw_path_qs) > 1 else "", *secrets)
    try:
        # Not to another host, which would get the token.
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            detail = (await response.content.read(_DETAIL_BYTES)).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise RetryableError(f"{where}: {without(str(error), *secrets) or type(error).__name__}") from None
    if 200 <= response.status < 300:
        return
    message = f"{where} answered {response.status}: {without(' '.join(detail.split()), *secrets)}"
    if response.status not in _LATER and response.status < 500:
        raise PermanentError(message)
    wait = _retry_after(response.headers.get("Retry-After", ""))
    raise RetryableError(message) if wait is None else BusyError(message, wait)


def _retry_after(value: str) -> float | None:
    """Return the seconds of a header Retry-After, which has seconds or a date; None if it has neither."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
