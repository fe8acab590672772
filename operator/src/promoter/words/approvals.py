"""Who approved, and who still has to."""

from __future__ import annotations

from promoter.api.spec import Spec
from promoter.api.status import Approval, State
from promoter.decision.approvals import missing_now
from promoter.words.times import duration


def approval_lines(spec: Spec | None, state: State, now: float) -> list[str]:
    """Return the approvals of a rollout, the oldest first, and what is missing.

    Args:
        spec: What is followed, None if it is invalid.
        state: The status.
        now: Seconds since 1970.
    """
    given = state.approvals.given if state.approvals else ()
    lines = [_line(approval, now) for approval in given]
    if spec is not None and (lacking := missing_now(spec, state)):
        lines.append(f"missing: {lacking}")
    return lines


def _line(approval: Approval, now: float) -> str:
    said = f": {approval.comment}" if approval.comment else ""
    groups = ", ".join(approval.groups)
    return f"{approval.user} ({groups}) at step {approval.step + 1}, {duration(now - approval.at)} ago{said}"
