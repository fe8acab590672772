"""Whether a canary can answer what the champion's clients send."""

from __future__ import annotations

from typing import Any

Contract = dict[str, Any]


def misfit(champion: Contract, canary: Contract) -> str:
    """Return how a canary's contract refuses requests that the champion's accepts, "" where it does not."""
    ours = {feature["name"]: feature for feature in champion["features"]}
    theirs = {feature["name"]: feature for feature in canary["features"]}
    if missing := sorted(theirs.keys() - ours.keys()):
        return f"the canary asks for {', '.join(missing)}, which clients do not send"
    if surplus := sorted(ours.keys() - theirs.keys()):
        return f"the canary does not know {', '.join(surplus)}, which clients send"
    return next(filter(None, (_narrower(ours[name], theirs[name]) for name in ours)), "")


def _narrower(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    name = ours["name"]
    if ours["kind"] != theirs["kind"]:
        return f"{name} is {theirs['kind']} in the canary and {ours['kind']} in the champion"
    if ours["kind"] == "categorical":
        unknown = [category for category in ours["categories"] if category not in theirs["categories"]]
        return f"the canary refuses {name} = {', '.join(unknown)}" if unknown else ""
    if theirs["minimum"] > ours["minimum"] or theirs["maximum"] < ours["maximum"]:
        return (f"the canary takes {name} from {theirs['minimum']:g} to {theirs['maximum']:g} only, "
                f"the champion from {ours['minimum']:g} to {ours['maximum']:g}")  # fmt: skip
    return ""
