"""Delivers notifications to their receivers, beside the turns and never in their way.

What is to be delivered lies in the status of the ModelPromotions; this only knows which of it is settled already. Each
receiver has a queue of its own, so one that is down delays no other. An operator that starts again delivers some
notifications a second time, with the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from promoter.api.resource import Owner
from promoter.api.status import Event, Notification, NotificationKind, State
from promoter.backoff import backoff, spread
from promoter.errors import BusyError, PermanentError, RetryableError
from promoter.telemetry import Telemetry

log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 1.0, 300.0
_MAX_RETRY_AFTER_SECONDS = 3600.0
# After a day nobody wants to be told anymore.
EXPIRES_AFTER_SECONDS = 86_400.0
# After so many failures in a row the next attempt is another one's: perhaps only the oldest is not accepted.
_FAILURES_BEFORE_ANOTHER = 5

Outcome = Literal["delivered", "refused", "expired", "dropped"]
OUTCOMES: tuple[Outcome, ...] = ("delivered", "refused", "expired", "dropped")


class Receiver(Protocol):
    """Where notifications go."""

    @property
    def name(self) -> str:
        """Return the name in metrics, in the status and in the values of the chart."""

    async def deliver(self, owner: Owner, notification: Notification) -> None:
        """Deliver a notification; delivering it again does no harm, because its id is the same.

        Raises:
            BusyError: the receiver said when it accepts the next one.
            RetryableError: it did not answer, or not as it should; a later attempt may help.
            PermanentError: it refused this notification.
        """


@dataclass(frozen=True)
class Subscription:
    """A receiver, and the kinds of notifications that it wants."""

    receiver: Receiver
    kinds: frozenset[NotificationKind]


class Notifier:
    """The notifications of all promotions that are not delivered yet."""

    def __init__(
        self,
        subscriptions: Iterable[Subscription],
        telemetry: Telemetry,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take who wants what, the operator's metrics, the time in seconds since 1970, and how to wait."""
        subscriptions = tuple(subscriptions)
        # By promotion and notification: by receiver, why it was refused; "" if it is settled otherwise.
        self._settled: dict[str, dict[str, dict[str, str]]] = {}
        self._queues = {
            entry.receiver.name: _Queue(entry.receiver, self._settle, telemetry, clock, sleep)
            for entry in subscriptions
        }
        kinds = frozenset[NotificationKind]().union(*(entry.kinds for entry in subscriptions))
        self.subscribers: Mapping[NotificationKind, tuple[str, ...]] = {
            kind: tuple(entry.receiver.name for entry in subscriptions if kind in entry.kinds) for kind in kinds
        }

    @property
    def waiting(self) -> int:
        """Return how many deliveries are due."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def without_settled(self, owner: Owner, state: State, now: float) -> State:
        """Return a state without what is settled, and with an Event for each refusal."""
        settled = self._settled.get(owner.uid, {})
        left: list[Notification] = []
        events: list[Event] = []
        for entry in state.notifications.pending:
            outcomes = settled.get(entry.id, {})
            to = tuple(name for name in entry.to if name in self._queues and name not in outcomes)
            events += [_refusal(entry, name, why, now) for name, why in outcomes.items() if why and name in entry.to]
            left += [entry.model_copy(update={"to": to})] if to else []
        pending = tuple(left)
        if pending == state.notifications.pending:
            return state
        notifications = state.notifications.model_copy(update={"pending": pending})
        return state.model_copy(
            update={"notifications": notifications, "pending_events": (*state.pending_events, *events)}
        )

    def take(self, owner: Owner, stored: State) -> None:
        """Take from a stored state what is to be delivered, and forget what it no longer has.

        The state of a deleted promotion is not seen again; what was taken of it is delivered nevertheless.
        """
        pending = {entry.id: entry for entry in stored.notifications.pending}
        known = self._settled.get(owner.uid, {})
        settled = self._settled[owner.uid] = {key: found for key, found in known.items() if key in pending}
        for queue in self._queues.values():
            wanted = (entry for entry in pending.values() if queue.name in entry.to)
            queue.set_wanted(owner, {e.id: e for e in wanted if queue.name not in settled.get(e.id, {})})

    def forget(self, owner: Owner) -> None:
        """Forget what is settled of a deleted promotion."""
        self._settled.pop(owner.uid, None)

    async def run(self) -> None:
        """Deliver what is taken, for ever."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues.values():
                group.create_task(queue.run(), name=f"notifications to {queue.name}")

    def _settle(self, owner: Owner, notification: Notification, receiver: str, refusal: str) -> None:
        if owner.uid in self._settled:
            self._settled[owner.uid].setdefault(notification.id, {})[receiver] = refusal


class _Queue:
    """What one receiver is to get, oldest first."""

    def __init__(
        self,
        receiver: Receiver,
        settle: Callable[[Owner, Notification, str, str], None],
        telemetry: Telemetry,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.name, self.waiting = receiver.name, dict[str, tuple[Owner, Notification]]()
        self._receiver, self._settle, self._telemetry = receiver, settle, telemetry
        self._clock, self._sleep = clock, sleep
        self._wake = asyncio.Event()
        for outcome in OUTCOMES:
            telemetry.notifications.labels(self.name, outcome)
        telemetry.notification_failures.labels(self.name)
        self._show_length()

    def set_wanted(self, owner: Owner, wanted: Mapping[str, Notification]) -> None:
        """Take what the promotion's status has for this receiver; what it no longer has was dropped there."""
        dropped = [key for key, (whose, _) in self.waiting.items() if whose.uid == owner.uid and key not in wanted]
        for key in dropped:
            log.error("%s: notification %s to %s was dropped: too many are pending", owner, key, self.name)
            self._count("dropped")
            del self.waiting[key]
        self.waiting |= {key: (owner, entry) for key, entry in wanted.items() if key not in self.waiting}
        self._show_length()
        if self.waiting:
            self._wake.set()

    async def run(self) -> None:
        """Deliver what is waiting, for ever."""
        failures = 0
        while True:
            if not self.waiting:
                self._wake.clear()
                await self._wake.wait()
            owner, entry = self._next(failures)
            outcome, refusal = await self._attempt(owner, entry)
            if isinstance(outcome, RetryableError):
                failures += 1
                await self._pause(owner, outcome, failures)
                continue
            failures = 0
            self._count(outcome)
            # If it was dropped meanwhile, that is what the metrics have said.
            self.waiting.pop(entry.id, None)
            self._show_length()
            self._settle(owner, entry, self.name, refusal)

    def _next(self, failures: int) -> tuple[Owner, Notification]:
        entries = list(self.waiting.values())
        rounds, rest = divmod(failures, _FAILURES_BEFORE_ANOTHER)
        return entries[0 if rest else rounds % len(entries)]

    async def _attempt(self, owner: Owner, entry: Notification) -> tuple[Outcome | RetryableError, str]:
        """Try to deliver, and return what became of it, and why it was refused if it was."""
        if self._clock() - entry.at > EXPIRES_AFTER_SECONDS:
            log.error("%s: notification %s to %s has expired", owner, entry.id, self.name)
            return "expired", ""
        try:
            await self._receiver.deliver(owner, entry)
        except RetryableError as error:
            return error, ""
        except PermanentError as error:
            log.error("%s: notification %s was refused by %s: %s", owner, entry.id, self.name, error)  # noqa: TRY400
            return "refused", str(error)
        except Exception as error:  # noqa: BLE001 - a fault of one receiver must not end the delivery to all
            # Its type alone: a message may have an address or a password.
            return RetryableError(f"unexpected {type(error).__name__}"), ""
        return "delivered", ""

    async def _pause(self, owner: Owner, error: RetryableError, failures: int) -> None:
        self._telemetry.notification_failures.labels(self.name).inc()
        log.warning("%s: %d notifications to %s are waiting: %s", owner, len(self.waiting), self.name, error)
        pause = spread(backoff(failures, _FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS))
        if isinstance(error, BusyError):
            pause = max(pause, min(error.retry_after, _MAX_RETRY_AFTER_SECONDS))
        await self._sleep(pause)

    def _count(self, outcome: Outcome) -> None:
        self._telemetry.notifications.labels(self.name, outcome).inc()

    def _show_length(self) -> None:
        self._telemetry.notifications_pending.labels(self.name).set(len(self.waiting))


def _refusal(entry: Notification, receiver: str, why: str, now: float) -> Event:
    message = f"the notification {entry.kind} was refused by {receiver}, and is not sent again: {why}"
    return Event(reason="NotificationRefused", message=message, type="Warning", at=now)
