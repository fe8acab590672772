"""What a notification says, in words that need no second look; receivers only differ in the markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from promoter.api.resource import Owner
from promoter.api.status import Notification, NotificationKind
from promoter.notifications.settings import Links


@dataclass(frozen=True)
class Text:
    """A title of one line, details of one line each, and links by their labels."""

    title: str
    details: tuple[str, ...]
    links: dict[str, str]


@dataclass(frozen=True)
class Wording:
    """What messages say beside the notification: the cluster's name, and where people read on."""

    cluster: str = ""
    links: Links = field(default_factory=Links)

    def text(self, owner: Owner, notification: Notification) -> Text:
        """Return what a notification says."""
        where = f"ModelPromotion {owner}" + (f" in cluster {self.cluster}" if self.cluster else "")
        title = " ".join(f"{notification.model}: {_TITLES[notification.kind](notification)}".split())
        return Text(title, (*_details(owner, notification), where), self.links_of(owner, notification))

    def links_of(self, owner: Owner, notification: Notification) -> dict[str, str]:
        """Return where people read on, by label."""
        found: dict[str, str] = {}
        if page := self.links.page:
            named = page.replace("{namespace}", quote(owner.namespace, safe=""))
            found["promotion"] = named.replace("{name}", quote(owner.name, safe=""))
        if self.links.mlflow and notification.version:
            model, version = (quote(part, safe="") for part in (notification.model, notification.version))
            found["model"] = f"{self.links.mlflow.rstrip('/')}/#/models/{model}/versions/{version}"
        return found


def _started(notification: Notification) -> str:
    champion = notification.stable_version
    against = f"version {champion} is the champion" if champion else "there is no champion yet"
    return f"the rollout of version {notification.version} has started; {against}"


def _rolled_back(notification: Notification) -> str:
    answers = f"; version {notification.stable_version} answers all applicants"
    return f"version {notification.version} was rolled back ({notification.reason}): {notification.message}{answers}"


_TITLES: dict[NotificationKind, Callable[[Notification], str]] = {
    "RolloutStarted": _started,
    "Promoted": lambda it: f"version {it.version} was promoted: {it.message}",
    "RolledBack": _rolled_back,
    "Stopped": lambda it: f"the rollout of version {it.version} was stopped ({it.reason}): {it.message}",
    "Completed": lambda it: f"the experiment with version {it.version} is completed: {it.message}",
    "WaitingForPerson": lambda it: f"the rollout of version {it.version} waits for a person: {it.message}",
    "Degraded": lambda it: f"needs attention ({it.reason}): {it.message}",
    "Recovered": lambda it: f"no longer needs attention: {it.message}",
}


def _details(owner: Owner, notification: Notification) -> Iterator[str]:
    for result in notification.judgment.results if notification.judgment else ():
        yield f"{result.verdict}: {result.message}"
    promotion = f"{owner.name} -n {owner.namespace}"
    if notification.kind == "WaitingForPerson":
        action = "approve" if notification.reason == "ApprovalsNeeded" else "resume"
        yield f"to go on: kubectl promotion {action} {promotion}"
        yield f"to roll back: kubectl promotion abort {promotion}"
    elif notification.kind == "RolledBack":
        yield f"why, and what to do: kubectl promotion explain {promotion}"


def cloud_event(wording: Wording, owner: Owner, notification: Notification) -> dict[str, Any]:
    """Return a notification as contracts/notification.schema.json has it: a CloudEvent 1.0."""
    text = wording.text(owner, notification)
    judgment = notification.judgment.model_dump(mode="json", exclude_none=True) if notification.judgment else None
    dumped = notification.model_dump(mode="json", exclude={"id", "at", "to", "judgment"})
    named = {"namespace": owner.namespace, "name": owner.name, "cluster": wording.cluster}
    of_version = f"/versions/{notification.version}" if notification.version else ""
    return {
        "specversion": "1.0",
        "id": notification.id,
        "source": f"/apis/creditrisk.io/v1alpha1/namespaces/{owner.namespace}/modelpromotions/{owner.name}",
        "type": f"io.creditrisk.promotion.{notification.kind}",
        "subject": f"models/{quote(notification.model)}{of_version}",
        "time": notification.model_dump(mode="json", include={"at"})["at"],
        "datacontenttype": "application/json",
        "data": {**named, **dumped, "judgment": judgment, "title": text.title, "links": text.links},
    }
