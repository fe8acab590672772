"""Signs and tones of phases, verdicts and outcomes; a tone is shown as a color, so a sign or a word goes with it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from promoter.api.status import Phase, Verdict

Tone = Literal["good", "bad", "busy", "waiting", "none"]


class Mark(NamedTuple):
    """A sign before a word, and the tone of both."""

    sign: str
    tone: Tone


PHASES = {
    Phase.INITIALIZING: Mark("◌", "busy"),
    Phase.IDLE: Mark("✔", "good"),
    Phase.STARTING: Mark("◌", "busy"),
    Phase.PROGRESSING: Mark("◌", "busy"),
    Phase.PAUSED: Mark("॥", "waiting"),
    Phase.PROMOTING: Mark("◌", "busy"),
    Phase.FINISHING: Mark("◌", "busy"),
    Phase.STOPPING: Mark("◌", "waiting"),
    Phase.ROLLING_BACK: Mark("↺", "bad"),
    Phase.FAILED: Mark("✖", "bad"),
}
VERDICTS = {
    Verdict.SUCCESSFUL: Mark("✔", "good"),
    Verdict.FAILED: Mark("✖", "bad"),
    Verdict.INCONCLUSIVE: Mark("?", "waiting"),
    Verdict.ERROR: Mark("!", "bad"),
}
OUTCOMES = {
    "Promoted": Mark("✔", "good"),
    "RolledBack": Mark("✖", "bad"),
    "Stopped": Mark("■", "waiting"),
    "Completed": Mark("✔", "good"),
}
UNKNOWN = Mark("·", "none")
