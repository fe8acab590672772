"""A Lease, held by the one operator that may write; others stand by.

The protocol is client-go's leader election (k8s.io/client-go/tools/leaderelection): the holder renews the Lease;
another operator takes it once it has seen no renewal for as long as the Lease says, by its own clock, since the clocks
of nodes differ. The pod owns the Lease, so that it goes with the pod, and its successor need not wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from promoter.adapters.rest import KubeClient
from promoter.api.timestamps import to_microseconds_text
from promoter.errors import ConflictError, PermanentError, RetryableError

log = logging.getLogger(__name__)
Document = dict[str, Any]
NAME = "model-promotion-operator"
DURATION_SECONDS = 10
RENEWAL_SECONDS = 2.0
# The holder stops writing before another one may take the Lease: its own clock starts when it sends a renewal.
_MARGIN_SECONDS = 2.0


@dataclass(frozen=True)
class OwnPod:
    """The pod that the operator runs in; its name is unique in the cluster's namespace over time."""

    namespace: str
    name: str
    uid: str


class Lease:
    """The Lease of one operator's release."""

    def __init__(self, kube: KubeClient, pod: OwnPod, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a client without a guard, this process's pod, and a monotonic clock in seconds."""
        self._kube, self._pod, self._clock = kube, pod, clock
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{pod.namespace}/leases"
        self._held_until = 0.0
        # The newest resource version of another holder's Lease, and when it was first seen.
        self._seen: tuple[str, float] = ("", 0.0)

    def held(self) -> bool:
        """Return whether this process may write now."""
        return self._clock() < self._held_until

    async def acquire(self, standing_by: Callable[[], None]) -> None:
        """Wait until this process holds the Lease; `standing_by` is called if another one holds it."""
        while (holder := await self._attempt()) != self._pod.name:
            if holder:
                log.info("standing by: the Lease %s is held by %s", NAME, holder)
                standing_by()
            await asyncio.sleep(RENEWAL_SECONDS)
        log.info("this operator holds the Lease %s", NAME)

    async def keep(self) -> None:
        """Renew the Lease until another process has it; an API server that does not answer does not end this."""
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            holder = await self._attempt()
            if holder not in {"", self._pod.name}:
                self._held_until = 0.0
                log.error("the Lease %s was taken by %s: this operator stops", NAME, holder)
                return

    async def _attempt(self) -> str:
        """Take or renew the Lease if possible; return who holds it then, "" if that is unknown."""
        now = self._clock()
        try:
            found = await self._kube.get(f"{self._collection}/{NAME}")
            if found is None:
                await self._kube.request("POST", self._collection, self._document({}))
            elif (holder := self._other_holder(found, now)) is not None:
                return holder
            else:
                await self._kube.request("PUT", f"{self._collection}/{NAME}", self._document(found))
        except ConflictError:
            # Somebody else was faster; the next attempt shows who.
            return ""
        except (RetryableError, PermanentError) as error:
            log.warning("the Lease %s can be neither read nor renewed: %s", NAME, error)
            return ""
        self._held_until = now + DURATION_SECONDS - _MARGIN_SECONDS
        return self._pod.name

    def _other_holder(self, found: Document, now: float) -> str | None:
        """Return another holder whose Lease has not expired."""
        spec, version = found.get("spec") or {}, found["metadata"]["resourceVersion"]
        holder = str(spec.get("holderIdentity") or "")
        if version != self._seen[0]:
            self._seen = (version, now)
        expired = now - self._seen[1] >= spec.get("leaseDurationSeconds", DURATION_SECONDS)
        return None if expired or holder in {"", self._pod.name} else holder

    def _document(self, old: Document) -> Document:
        spec, now = old.get("spec") or {}, to_microseconds_text(time.time())
        same = spec.get("holderIdentity") == self._pod.name
        metadata: Document = {
            "name": NAME,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": self._pod.name, "uid": self._pod.uid}],
        }
        if old:
            # Refused if somebody else changed the Lease since it was read.
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._pod.name,
                "leaseDurationSeconds": DURATION_SECONDS,
                "acquireTime": spec["acquireTime"] if same else now,
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if same or not old else 1),
            },
        }
