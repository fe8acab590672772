"""Follow ModelPromotions: list, watch from there, and go on after whatever ends a watch.

A watch ends every few minutes by itself, with 410 when its resource version is too old, and whenever a connection is
lost. Only the API server is asked; the operator does not notice.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kubectl_promotion.cluster.kubectl import Document, Kubectl, failure, read_all
from kubectl_promotion.cluster.promotions import collection_path
from kubectl_promotion.errors import NOT_FOUND, REFUSED, UNREACHABLE, USAGE, CommandError, ExpiredError

# The API server ends a watch after this; a watch that is still open much later has lost its connection unnoticed.
WATCH_SECONDS = 240
_SILENT_SECONDS = WATCH_SECONDS + 30
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
# Trying again does not help.
_FINAL = frozenset({USAGE, NOT_FOUND, REFUSED})


@dataclass(frozen=True)
class Lost:
    """The API server cannot be followed right now, and why; it is tried again."""

    reason: str


# All objects as they are now, or why that is not known.
Update = Sequence[Document] | Lost


class Watch:
    """Follows the ModelPromotions of a namespace (None: of all), or one of them."""

    def __init__(self, kubectl: Kubectl, namespace: str | None, name: str | None = None) -> None:
        """Take what to follow; `updates` starts following it."""
        self._kubectl = kubectl
        self._path = collection_path(namespace)
        self._selector = {} if name is None else {"fieldSelector": f"metadata.name={name}"}
        self._stopped = threading.Event()
        self._process_lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def stop(self) -> None:
        """End `updates`, whatever it waits for; may be called from another thread."""
        self._stopped.set()
        with self._process_lock:
            if self._process is not None:
                self._process.kill()

    def updates(self) -> Iterator[Update]:
        """Yield all objects whenever one changes, and whenever the connection is lost.

        Raises:
            CommandError: it is of no use to try again: not logged in, no permission, no such kind.
        """
        failures = 0
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                yield from self._from_a_list()
            except ExpiredError:
                # Nothing is lost: listing again shows what has changed.
                pass
            except CommandError as error:
                if self._stopped.is_set():
                    return
                if error.exit_code in _FINAL:
                    raise
                yield Lost(str(error))
            failures = 1 if time.monotonic() - began > _PAUSES[-1] else failures + 1
            self._stopped.wait(_PAUSES[min(failures, len(_PAUSES)) - 1])

    def _from_a_list(self) -> Iterator[Update]:
        listing = self._kubectl.get(self._path, **self._selector)
        objects = {_key(document): document for document in listing.get("items") or []}
        yield list(objects.values())
        version = str(listing["metadata"]["resourceVersion"])
        while not self._stopped.is_set():
            began = time.monotonic()
            for event in self._events(version):
                found = event["object"]
                version = str(found["metadata"]["resourceVersion"])
                if event["type"] == "BOOKMARK":
                    continue
                if event["type"] == "DELETED":
                    objects.pop(_key(found), None)
                else:
                    objects[_key(found)] = found
                yield list(objects.values())
            if time.monotonic() - began < 1:
                # A proxy that ends watches at once must not be asked in a tight loop.
                self._stopped.wait(1)

    def _events(self, version: str) -> Iterator[Document]:
        """Yield one watch's events until the server ends it.

        Raises:
            ExpiredError: the version is too old.
            CommandError: the connection was lost, or never came to be.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS),
                 "resourceVersion": version, **self._selector}  # fmt: skip
        with self._kubectl.running(*self._kubectl.stream(self._path, **query)) as process:
            with self._process_lock:
                self._process = process
            if self._stopped.is_set():
                return
            silence = threading.Timer(_SILENT_SECONDS, process.kill)
            silence.start()
            try:
                for line in process.stdout or ():
                    yield _event(line)
            finally:
                silence.cancel()
            errors = read_all(process.stderr)
            if process.wait() and not self._stopped.is_set():
                raise failure(errors) if errors.strip() else CommandError("the connection was lost", UNREACHABLE)


@contextmanager
def following(watch: Watch) -> Iterator[queue.Queue[Update | CommandError]]:
    """Follow in a thread of its own for the duration of the block; an error is the last thing in the queue."""
    found: queue.Queue[Update | CommandError] = queue.Queue()

    def follow() -> None:
        try:
            for update in watch.updates():
                found.put(update)
        except CommandError as error:
            found.put(error)

    thread = threading.Thread(target=follow, name="watch", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        watch.stop()
        thread.join(timeout=5)


def _event(line: str) -> Document:
    try:
        event: Document = json.loads(line)
    except ValueError as error:
        raise CommandError("the watch was cut off", UNREACHABLE) from error
    if event["type"] == "ERROR":
        status = event["object"]
        text = str(status.get("message", "the watch failed"))
        raise (ExpiredError if status.get("code") == 410 else CommandError)(text, UNREACHABLE)
    return event


def _key(document: Document) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]
