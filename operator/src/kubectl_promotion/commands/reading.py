"""`get`, `list`, `history` and `explain`: what is, what was, and why."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import ModelPromotion, find, find_all
from kubectl_promotion.cluster.workloads import Workloads, read_workloads
from kubectl_promotion.commands.live import watch_list, watch_one
from kubectl_promotion.completion_sources import complete_versions
from kubectl_promotion.options import Name, Output, with_cluster
from kubectl_promotion.views import marks
from kubectl_promotion.views.lines import LIST_COLUMNS, row
from kubectl_promotion.views.output import Format, console, plain, table, write, write_document
from kubectl_promotion.views.tree import picture
from kubectl_promotion.words.explanation import explain as explained
from promoter.api.rules import target_of
from promoter.words.times import duration, local_time

Watched = Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show every change.")]
HISTORY_COLUMNS = ("VERSION", "OUTCOME", "REASON", "ENDED", "AGO")


@with_cluster
def get(kubectl: Kubectl, name: Name = None, watch: Watched = False, output: Output = Format.TEXT) -> None:
    """Show a rollout: versions, pods, weight, steps, checks, and what happens next."""
    promotion = find(kubectl, name)
    if watch:
        watch_one(kubectl, promotion, output)
    elif output != Format.TEXT:
        write_document(promotion.document, output)
    else:
        write(picture(promotion, workloads_of(kubectl, promotion), time.time()))


@with_cluster
def list_(
    kubectl: Kubectl,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    watch: Watched = False,
    output: Output = Format.TEXT,
) -> None:
    """List ModelPromotions, one line each."""
    if watch:
        watch_list(kubectl, everywhere=everywhere, form=output)
        return
    found = find_all(kubectl, everywhere=everywhere)
    if output != Format.TEXT:
        write_document([promotion.document for promotion in found], output)
    elif not found:
        write("no ModelPromotions" + ("" if everywhere else f" in namespace {kubectl.namespace}"))
    else:
        columns = ("NAMESPACE", *LIST_COLUMNS) if everywhere else LIST_COLUMNS
        now = time.time()
        write(table(columns, (row(promotion, now, with_namespace=everywhere) for promotion in found)))


@with_cluster
def history(kubectl: Kubectl, name: Name = None, output: Output = Format.TEXT) -> None:
    """List the last ten rollouts, newest first, and the versions that `undo` can go back to."""
    promotion = find(kubectl, name)
    state = promotion.state
    if output != Format.TEXT:
        write_document(_history_document(promotion), output)
        return
    now = time.time()
    if state.history:
        write(table(HISTORY_COLUMNS, (
            (entry.version, marks.outcome(entry.outcome), entry.reason, local_time(entry.at), duration(now - entry.at))
            for entry in state.history
        )))  # fmt: skip
    else:
        write("no rollout has ended yet")
    write(f"stable: {state.stable_version or 'none'}; before it: {', '.join(state.stable_history) or 'none'}")


@with_cluster
def explain(
    kubectl: Kubectl,
    name: Name = None,
    version: Annotated[str | None, typer.Option(
        help="Whose rollout to explain. Default: the one that failed or is in progress.",
        autocompletion=complete_versions)] = None,
    output: Output = Format.TEXT,
) -> None:  # fmt: skip
    """Explain in words why a version was rolled back, or what a rollout is waiting for, and what to do."""
    found = explained(find(kubectl, name), version, time.time())
    if output != Format.TEXT:
        write_document(found.to_document(), output)
        return
    write(found.summary)
    shown = console()
    for title, text in found.points:
        shown.print(plain(f"\n{title.capitalize()}:"), style="bold")
        shown.print(plain(text))


def workloads_of(kubectl: Kubectl, promotion: ModelPromotion) -> Workloads:
    """Return the Deployments and pods of a ModelPromotion."""
    target = promotion.state.target or target_of(promotion.document.get("spec"))
    return read_workloads(kubectl, promotion.namespace, target)


def _history_document(promotion: ModelPromotion) -> dict[str, Any]:
    status = promotion.document.get("status") or {}
    return {
        "name": promotion.name,
        "namespace": promotion.namespace,
        "stableVersion": status.get("stableVersion"),
        "stableHistory": status.get("stableHistory", []),
        "history": status.get("history", []),
        "failedVersions": status.get("failedVersions", []),
    }
