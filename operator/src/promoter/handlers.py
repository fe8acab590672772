"""kopf's part: log in and watch; the scheduler does the rest.

Only `on.event` is used: other handlers store their progress in annotations or add finalizers, and a ModelPromotion must
be deletable without the operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, Protocol

import kopf

from promoter.api.resource import GROUP, PLURAL, VERSION
from promoter.errors import PermanentError


class Backoffs:
    """Seconds between attempts to list or to watch again, without an end.

    kopf's own list ends after a minute. A watch of a namespace that is gone, where the operator has no permission any
    more, would then end the operator, and with it the rollouts in all other namespaces.
    """

    def __iter__(self) -> Iterator[float]:
        """Yield the pauses, from the first attempt on."""
        return chain((1.0, 1.0, 2.0, 3.0), repeat(5.0))


class Promotions(Protocol):
    """The part of the scheduler that takes watch events."""

    def upsert(self, document: dict[str, Any]) -> None:
        """Take a new or changed object."""

    def remove(self, document: dict[str, Any]) -> None:
        """Take a deleted object."""


def login() -> kopf.ConnectionInfo:
    """Return address and credentials of the cluster: from the pod's service account, else from the kubeconfig.

    Raises:
        PermanentError: there is neither.
    """
    settings = kopf.OperatorSettings()
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise PermanentError("no cluster: found neither a service account nor a kubeconfig (KUBECONFIG)")
    return found


def create_registry(promotions: Promotions) -> kopf.OperatorRegistry:
    """Return the handlers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**_: Any) -> kopf.ConnectionInfo:  # noqa: ANN401 - kopf's arguments
        return login()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401
        document: dict[str, Any] = dict(event["object"])
        if event["type"] == "DELETED":
            promotions.remove(document)
        else:
            promotions.upsert(document)

    return registry


def create_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: bounded watches; no posting and no scanning, which the Role does not allow."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = Backoffs()
    return settings
