"""`approve`: consent to go on with a version from the pause at which it waits."""

from __future__ import annotations

from typing import Annotated

import typer

from kubectl_promotion.cluster.approvals import give_approval
from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import find
from kubectl_promotion.completion_sources import complete_versions
from kubectl_promotion.errors import REFUSED, USAGE, CommandError
from kubectl_promotion.options import Name, with_cluster
from kubectl_promotion.views.output import write
from promoter.api.approvals import COMMENT_LENGTH
from promoter.decision.approvals import approved_by, asked_now


@with_cluster
def approve(
    kubectl: Kubectl,
    name: Name = None,
    comment: Annotated[str, typer.Option(help="Why, for the record.", show_default=False)] = "",
    version: Annotated[str | None, typer.Option(
        help="Approve no other version than this one.", autocompletion=complete_versions)] = None,
) -> None:  # fmt: skip
    """Approve the version that waits for approvals, in your own name. An approval cannot be withdrawn."""
    if len(comment) > COMMENT_LENGTH:
        raise CommandError(f"--comment: {len(comment)} characters; allowed are {COMMENT_LENGTH}", USAGE)
    promotion = find(kubectl, name)
    state = promotion.state
    asked = asked_now(promotion.spec, state) if promotion.spec else None
    if asked is None or state.phase_started_at is None:
        raise CommandError(f"{promotion.name} is in phase {state.phase}: nothing waits for approvals", REFUSED)
    if version not in {None, state.canary_version}:
        waits = f"version {state.canary_version} waits for approvals, not version {version}"
        raise CommandError(f"{promotion.name}: {waits}", REFUSED)
    user = give_approval(kubectl, promotion, comment)
    number = len({*approved_by(asked, state.approvals, state.step_index), user})
    write(f"{promotion.name}: {user} approved version {state.canary_version} at step {state.step}, {number} of "
          f"{asked.needed}")  # fmt: skip
