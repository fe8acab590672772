"""Signs and colors of phases, verdicts and steps; every color comes with a sign or a word."""

from __future__ import annotations

from rich.text import Text

from kubectl_promotion.views.output import plain
from promoter.api.status import Phase, Verdict
from promoter.words.marks import OUTCOMES, PHASES, UNKNOWN, VERDICTS, Mark

_COLORS = {"good": "green", "bad": "red", "busy": "cyan", "waiting": "yellow", "none": ""}


def phase(value: Phase) -> Text:
    """Return a phase with its sign."""
    return _colored(PHASES[value], value.value)


def verdict(value: Verdict) -> Text:
    """Return a verdict with its sign."""
    return _colored(VERDICTS[value], value.value)


def outcome(value: str) -> Text:
    """Return how a rollout ended, with its sign."""
    return _colored(OUTCOMES.get(value, UNKNOWN), value)


def mark(sign: str, color: str, words: str) -> Text:
    """Return words with a sign before them, both in a color."""
    return Text(f"{sign} {plain(words)}", style=color)


def _colored(found: Mark, words: str) -> Text:
    return mark(found.sign, _COLORS[found.tone], words)
