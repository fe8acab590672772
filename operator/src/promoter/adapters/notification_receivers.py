"""All receivers of notifications that the settings name."""

from __future__ import annotations

import aiohttp

from promoter.adapters.notifications_http import CloudEventsReceiver, SlackReceiver
from promoter.adapters.notifications_smtp import EmailReceiver
from promoter.notifications.delivery import Subscription
from promoter.notifications.settings import NotificationSettings
from promoter.notifications.text import Wording

TIMEOUT_SECONDS = 10.0


def create_session() -> aiohttp.ClientSession:
    """Return a session for what is outside the cluster: through the proxy that the environment names, if any."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), trust_env=True)


def subscriptions(session: aiohttp.ClientSession, settings: NotificationSettings) -> tuple[Subscription, ...]:
    """Return the receivers with what they want; none if nobody is to be told anything."""
    wording, found = Wording(settings.cluster, settings.links), list[Subscription]()
    if slack := settings.slack:
        found.append(Subscription(SlackReceiver(session, slack, wording), slack.events or settings.events))
    if events := settings.cloud_events:
        found.append(Subscription(CloudEventsReceiver(session, events, wording), events.events or settings.events))
    if email := settings.email:
        receiver = EmailReceiver(email, wording, TIMEOUT_SECONDS)
        found.append(Subscription(receiver, email.events or settings.events))
    return tuple(found)
