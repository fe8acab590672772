"""kopf's part: log in and watch. Everything else is the scheduler's.

Only `on.event`: every other kind of handler keeps notes in annotations or adds finalizers, and a ModelPromotion must
be deletable with the operator gone.
"""

from __future__ import annotations

from typing import Any

import kopf

from promoter.api.spec import GROUP, PLURAL, VERSION
from promoter.errors import PermanentError
from promoter.scheduler import Scheduler


def login() -> kopf.ConnectionInfo:
    """Return how to reach the cluster: the pod's service account, else the user's kubeconfig.

    Raises:
        PermanentError: when there is neither.
    """
    settings = kopf.OperatorSettings()
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise PermanentError("no cluster: neither a service account nor a kubeconfig (KUBECONFIG) is there")
    return found


def create_registry(scheduler: Scheduler) -> kopf.OperatorRegistry:
    """Return the handlers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**_: Any) -> kopf.ConnectionInfo:  # noqa: ANN401 - kopf's own arguments
        return login()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401
        document: dict[str, Any] = dict(event["object"])
        if event["type"] == "DELETED":
            scheduler.gone(document)
        else:
            scheduler.seen(document)

    return registry


def create_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: bounded watches, no posting, no scanning, for which the role has no permission."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    return settings
