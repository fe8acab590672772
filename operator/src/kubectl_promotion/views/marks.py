"""Signs and colors of phases, verdicts and steps; every color comes with a sign or a word."""

from __future__ import annotations

from rich.text import Text

from kubectl_promotion.views.output import plain
from promoter.api.status import Phase, Verdict

_PHASES = {
    Phase.INITIALIZING: ("◌", "cyan"),
    Phase.IDLE: ("✔", "green"),
    Phase.STARTING: ("◌", "cyan"),
    Phase.PROGRESSING: ("◌", "cyan"),
    Phase.PAUSED: ("॥", "yellow"),
    Phase.PROMOTING: ("◌", "cyan"),
    Phase.FINISHING: ("◌", "cyan"),
    Phase.STOPPING: ("◌", "yellow"),
    Phase.ROLLING_BACK: ("↺", "red"),
    Phase.FAILED: ("✖", "red"),
}
_VERDICTS = {
    Verdict.SUCCESSFUL: ("✔", "green"),
    Verdict.FAILED: ("✖", "red"),
    Verdict.INCONCLUSIVE: ("?", "yellow"),
    Verdict.ERROR: ("!", "red"),
}
_OUTCOMES = {"Promoted": ("✔", "green"), "RolledBack": ("✖", "red"), "Stopped": ("■", "yellow"),
             "Completed": ("✔", "green")}  # fmt: skip


def phase(value: Phase) -> Text:
    """Return a phase with its sign."""
    return mark(*_PHASES[value], value.value)


def verdict(value: Verdict) -> Text:
    """Return a verdict with its sign."""
    return mark(*_VERDICTS[value], value.value)


def outcome(value: str) -> Text:
    """Return how a rollout ended, with its sign."""
    return mark(*_OUTCOMES.get(value, ("·", "")), value)


def mark(sign: str, color: str, words: str) -> Text:
    """Return words with a sign before them, both in a color."""
    return Text(f"{sign} {plain(words)}", style=color)
