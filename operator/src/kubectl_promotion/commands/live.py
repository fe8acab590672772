"""Pictures that follow what happens, and lines where there is no terminal."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from kubectl_promotion.cluster.kubectl import Document, Kubectl
from kubectl_promotion.cluster.promotions import ModelPromotion, sorted_promotions
from kubectl_promotion.cluster.watch import Lost, Update, Watch, following
from kubectl_promotion.cluster.workloads import Workloads, read_workloads
from kubectl_promotion.errors import NOT_FOUND, CommandError
from kubectl_promotion.views.lines import LIST_COLUMNS, progress_line, row
from kubectl_promotion.views.output import Format, console, plain, table, warn, write, write_document
from kubectl_promotion.views.tree import picture
from promoter.api.rules import target_of
from promoter.api.status import RESTING

# Clocks on the picture move once per second.
_FRAME_SECONDS = 1.0
# Pods are read again this often; at rest they hardly change.
_PODS_SECONDS, _PODS_AT_REST_SECONDS = 5.0, 30.0
Updates = queue.Queue[Update | CommandError]


def watch_one(kubectl: Kubectl, promotion: ModelPromotion, form: Format) -> None:
    """Show a ModelPromotion until it is deleted or the user ends it: a tree on a terminal, else a line per change.

    Raises:
        CommandError: it was deleted, or may not be read any more.
    """
    with following(Watch(kubectl, promotion.namespace, promotion.name)) as updates:
        if form != Format.TEXT:
            for found in changes(updates, promotion.name):
                write_document(found.document, form)
        elif not sys.stdout.isatty():
            _lines(updates, promotion.name)
        else:
            with _WorkloadReader(kubectl, promotion).reading() as reader, _screen() as live:
                _animate(updates, promotion, reader, live)


def watch_list(kubectl: Kubectl, *, everywhere: bool, form: Format) -> None:
    """Show the list until the user ends it: a table on a terminal, else a line per change.

    Raises:
        CommandError: it may not be read.
    """
    namespace = None if everywhere else kubectl.namespace
    with following(Watch(kubectl, namespace)) as updates:
        if form == Format.TEXT and sys.stdout.isatty():
            with _screen() as live:
                _animate_list(updates, everywhere, live)
            return
        _list_lines(updates, form)


def changes(updates: Updates, name: str, *, deadline: float | None = None) -> Iterator[ModelPromotion]:
    """Yield a ModelPromotion whenever it changes, until the deadline of `time.monotonic`.

    Raises:
        CommandError: it was deleted, or may not be read any more.
    """
    for update in _lists(updates, deadline):
        yield _only(update, name)


def _lines(updates: Updates, name: str) -> None:
    before = ""
    for promotion in changes(updates, name):
        # The time at the beginning differs always.
        line = progress_line(promotion, time.time())
        if (said := line.partition(" ")[2]) != before:
            before = said
            write(line)


def _list_lines(updates: Updates, form: Format) -> None:
    """Write every ModelPromotion that has changed."""
    shown: dict[tuple[str, str], str] = {}
    for update in _lists(updates, None):
        found = {(promotion.namespace, promotion.name): promotion for promotion in sorted_promotions(update)}
        for namespace, name in shown.keys() - found.keys():
            del shown[namespace, name]
            warn(f"{namespace}/{name} was deleted")
        for key, promotion in found.items():
            if shown.get(key) != promotion.resource_version:
                shown[key] = promotion.resource_version
                if form == Format.TEXT:
                    write(progress_line(promotion, time.time()))
                else:
                    write_document(promotion.document, form)


def _animate(updates: Updates, promotion: ModelPromotion, reader: _WorkloadReader, live: Live) -> None:
    lost = ""
    while True:
        live.update(picture(promotion, reader.found, time.time(), lost), refresh=True)
        update = _next(updates, time.monotonic() + _FRAME_SECONDS)
        if isinstance(update, Lost):
            lost = update.reason
        elif update is not None:
            lost, promotion = "", _only(update, promotion.name)
            reader.show(promotion)


def _animate_list(updates: Updates, everywhere: bool, live: Live) -> None:
    columns = ("NAMESPACE", *LIST_COLUMNS) if everywhere else LIST_COLUMNS
    found: list[ModelPromotion] = []
    lost: RenderableType = ""
    while True:
        update = _next(updates, time.monotonic() + _FRAME_SECONDS)
        if isinstance(update, Lost):
            lost = Text(f"connection lost, trying again: {plain(update.reason)}", style="yellow")
        elif update is not None:
            lost, found = "", sorted_promotions(update)
        now = time.time()
        shown = table(columns, (row(promotion, now, with_namespace=everywhere) for promotion in found))
        shown.caption = lost if isinstance(lost, Text) else None
        live.update(shown, refresh=True)


def _lists(updates: Updates, deadline: float | None) -> Iterator[Sequence[Document]]:
    """Yield what there is whenever it changes, until the deadline, and say when the connection is lost."""
    while (update := _next(updates, deadline)) is not None:
        if isinstance(update, Lost):
            warn(f"connection lost, trying again: {update.reason}")
        else:
            yield update


def _next(updates: Updates, deadline: float | None) -> Update | None:
    """Return the next update, None at the deadline of `time.monotonic`.

    Raises:
        CommandError: following has ended.
    """
    try:
        update = updates.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        return None
    if isinstance(update, CommandError):
        raise update
    return update


def _only(documents: Sequence[Document], name: str) -> ModelPromotion:
    if not documents:
        raise CommandError(f"ModelPromotion {name} was deleted", NOT_FOUND)
    return ModelPromotion.read(documents[0])


@contextmanager
def _screen() -> Iterator[Live]:
    """Take the terminal's other screen, so that a picture larger than it does not scroll away what was there."""
    with Live(console=console(), screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield live


class _WorkloadReader:
    """Reads Deployments and pods beside the picture, because an answer may take seconds."""

    def __init__(self, kubectl: Kubectl, promotion: ModelPromotion) -> None:
        self.found = Workloads()
        self._kubectl = kubectl
        self._promotion = promotion
        self._due = threading.Event()
        self._stopped = False

    def show(self, promotion: ModelPromotion) -> None:
        """Take a change; pods are read again at once if the phase or a version is another."""
        before, self._promotion = self._promotion.state, promotion
        after = promotion.state
        if (before.phase, before.step, before.canary_version) != (after.phase, after.step, after.canary_version):
            self._due.set()

    @contextmanager
    def reading(self) -> Iterator[_WorkloadReader]:
        """Read for the duration of the block."""
        threading.Thread(target=self._read, name="workloads", daemon=True).start()
        try:
            yield self
        finally:
            self._stopped = True
            self._due.set()

    def _read(self) -> None:
        while not self._stopped:
            self._due.clear()
            promotion = self._promotion
            target = promotion.state.target or target_of(promotion.document.get("spec"))
            self.found = read_workloads(self._kubectl, promotion.namespace, target)
            self._due.wait(_PODS_AT_REST_SECONDS if promotion.state.phase in RESTING else _PODS_SECONDS)
