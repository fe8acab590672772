"""One ModelPromotion in one line, for lists, pipes and logs of CI."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from kubectl_promotion.cluster.promotions import ModelPromotion
from kubectl_promotion.views import marks
from kubectl_promotion.views.output import plain
from promoter.words.times import duration

LIST_COLUMNS = ("NAME", "PHASE", "STEP", "WEIGHT", "STABLE", "CANARY", "DESIRED", "READY", "AGE", "MESSAGE")


def row(promotion: ModelPromotion, now: float, *, with_namespace: bool) -> tuple[str | Text | None, ...]:
    """Return a row of the list; `with_namespace` puts that before the name."""
    state = promotion.state
    ready = state.condition("Ready")
    age = None if promotion.created_at is None else duration(now - promotion.created_at)
    head = (promotion.namespace,) if with_namespace else ()
    return (
        *head, promotion.name, marks.phase(state.phase), state.step, f"{state.weight} %", state.stable_version,
        state.canary_version, state.desired_version, ready.status if ready else None, age,
        Text(plain(state.message), no_wrap=True, overflow="ellipsis"),
    )  # fmt: skip


def progress_line(promotion: ModelPromotion, now: float) -> str:
    """Return where a rollout is, with the time of day."""
    state = promotion.state
    clock = datetime.fromtimestamp(now).astimezone().strftime("%H:%M:%S")
    position = f" step {state.step}" if state.step else ""
    weight = f" {state.weight} %" if state.weight else ""
    message = f": {state.message}" if state.message else ""
    return f"{clock} {promotion.name} {state.phase}{position}{weight}{message}"
