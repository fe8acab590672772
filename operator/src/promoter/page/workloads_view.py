"""What serves each version: Deployments, and in a rollout their pods."""

from __future__ import annotations

from collections.abc import Sequence

from promoter.api.resource import canary_name
from promoter.api.status import State
from promoter.page.html import Content, Html, element
from promoter.page.pieces import clock, marked
from promoter.ports import Pod, Snapshot
from promoter.words.marks import Mark

_MOST_PODS = 20
_READY, _WAITING = Mark("✔", "good"), Mark("◌", "waiting")


def versions(state: State, share: int, snapshot: Snapshot | None, now: float) -> Content:
    """Return the stable version and the canary with their pods.

    Args:
        state: The status.
        share: The percentage of applicants that the canary answers.
        snapshot: What was observed, None if nothing was yet.
        now: Seconds since 1970.
    """
    target = state.target or "scoring"
    wanted = state.route.generation if state.route.canary_version else None
    found = []
    if snapshot is None:
        found.append(element("p", "The cluster has not been observed yet.", class_="hint"))
    stable = snapshot.stable if snapshot else None
    if state.stable_version or (stable and stable.exists):
        notes = [stable.stalled, stable.waiting] if stable else []
        found.append(_version(state.stable_version, f"stable, {100 - share} %", [
            _counts(target, stable.available, stable.wanted) if stable else None,
            _notes(notes), _pods(snapshot.stable_pods if snapshot else (), wanted, now),
        ]))  # fmt: skip
    canary = snapshot.canary if snapshot and snapshot.canary.version else None
    if state.canary_version or canary:
        role = "shadow" if state.route.mode == "shadow" else f"canary, {share} %"
        found.append(_version(state.canary_version or (canary.version if canary else None), role, [
            _counts(canary_name(target), canary.ready, canary.replicas) if canary else None,
            _notes([canary.failure, canary.refused, canary.waiting] if canary else []),
            _pods(snapshot.canary_pods if snapshot else (), None, now),
        ]))  # fmt: skip
    return element("div", found, class_="versions")


def _version(version: str | None, role: str, content: Sequence[Content]) -> Html:
    title = element("h3", f"Version {version or 'unknown'}", " ", element("span", role, class_="role"))
    return element("div", title, content, class_="version")


def _counts(name: str, available: int, wanted: int) -> Html:
    mark = _READY if available >= wanted else _WAITING
    return element("p", marked(mark, f"Deployment {name}: {available} of {wanted} pods available"))


def _notes(notes: Sequence[str]) -> Html | None:
    shown = [element("li", note) for note in dict.fromkeys(notes) if note]
    return element("ul", shown, class_="why") if shown else None


def _pods(pods: Sequence[Pod], wanted: int | None, now: float) -> Html | None:
    """Return a line per pod; `wanted` is the generation of the route that it should apply, None if it applies none."""
    shown = [_pod(pod, wanted, now) for pod in sorted(pods, key=lambda pod: pod.name)[:_MOST_PODS]]
    more = [element("li", f"and {len(pods) - _MOST_PODS} more")] if len(pods) > _MOST_PODS else []
    return element("ul", shown, more, class_="pods") if shown else None


def _pod(pod: Pod, wanted: int | None, now: float) -> Html:
    late = wanted is not None and pod.ready and pod.route_generation is not None and pod.route_generation < wanted
    return element(
        "li", marked(_READY if pod.ready else _WAITING, pod.name), " ", "Ready" if pod.ready else "not ready",
        ", does not apply the weight yet" if late else None,
        [", started ", clock(pod.started_at, now)] if pod.started_at else None,
    )  # fmt: skip
