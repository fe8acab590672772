"""The list of all ModelPromotions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from promoter.api.resource import Owner
from promoter.api.status import RESTING, State
from promoter.api.summary import summarize
from promoter.page.html import Content, Html, element, join
from promoter.page.pieces import marked, table
from promoter.page.records import Facts
from promoter.words.marks import PHASES, VERDICTS, Mark

_COLUMNS = ("ModelPromotion", "Phase", "Step", "Weight", "Stable", "Canary", "Checks", "Message")


def index_picture(listed: Sequence[tuple[Owner, Facts]], root: str) -> Html:
    """Return the list, by namespace and name.

    Args:
        listed: All that are watched.
        root: The path of the pages, without a slash at the end.
    """
    if not listed:
        return element("p", "There is no ModelPromotion in the watched namespaces.", class_="hint")
    rows = [_row(owner, facts.state, root) for owner, facts in sorted(listed, key=lambda item: str(item[0]))]
    shown = table("All ModelPromotions of the watched namespaces", _COLUMNS, rows, "promotions")
    return element("section", join(element("h2", summary(listed)), shown), data_part=True, id="promotions")


def summary(listed: Sequence[tuple[Owner, Facts]]) -> str:
    """Return how many there are, and how many need attention."""
    count = Counter[str]()
    for _, facts in listed:
        count["being rolled out"] += facts.state.phase not in RESTING
        count["degraded"] += _degraded(facts.state)
    parts = [f"{number} {what}" for what, number in count.items() if number]
    return ", ".join([f"{len(listed)} ModelPromotion{'s' if len(listed) != 1 else ''}", *parts])


def _row(owner: Owner, state: State, root: str) -> Sequence[Content]:
    degraded = marked(Mark("✖", "bad"), "Degraded") if _degraded(state) else None
    return (
        element("a", str(owner), href=f"{root}/{owner.namespace}/{owner.name}"),
        marked(PHASES[state.phase], state.phase.value), state.step,
        f"{state.weight} %" if state.canary_version else None, state.stable_version, state.canary_version,
        [marked(VERDICTS[state.analysis.verdict], state.analysis.verdict.value) if state.analysis else None, " ",
         degraded], summarize(state.message),
    )  # fmt: skip


def _degraded(state: State) -> bool:
    condition = state.condition("Degraded")
    return bool(condition and condition.status == "True")
