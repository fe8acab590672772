"""A ModelPromotion as a user handles it: apply, watch its status, annotate, read its Events."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from urllib.parse import quote

import yaml

from e2e.kubernetes_api import Document
from e2e.namespace import LONGEST_WAIT_SECONDS, MODEL_PROMOTIONS, ScenarioNamespace

# Judged every two seconds, with limits as wide as tell the bad versions of these tests from good ones: a good one
# is known to be below twice a wide limit after few answers, below twice the default ones only after some hundred.
ANALYSIS: Document = {
    "interval": "2s",
    "minSamples": 40,
    "failureLimit": 2,
    "metrics": [
        {"type": "ErrorRate", "limit": 0.05},
        {"type": "ScorePSI", "limit": 0.5},
        {"type": "DecisionShift", "limit": 0.15},
    ],
}
STEPS: list[Document] = [{"weight": 30, "duration": "5s"}, {"weight": 60, "duration": "5s"}]
# A rollout that goes no further than this by itself.
STAYS_AT_30_PERCENT: list[Document] = [{"weight": 30, "duration": "10m"}]
# The longest line that `kubectl get mp` may print, so that it fits a terminal.
LONGEST_LINE = 120
# On a crowded machine answers take long, and a fallback would answer applicants by the champion again.
CANARY: Document = {"deadlineMilliseconds": 5000}


class Fault(StrEnum):
    """Why a ModelPromotion is not Ready: the reasons of its condition and of its Event."""

    INVALID_SPEC = "InvalidSpec"
    TARGET_TAKEN = "TargetTaken"
    TARGET_NOT_FOUND = "TargetNotFound"
    TARGET_FORBIDDEN = "TargetForbidden"


@dataclass(frozen=True)
class EndedRollout:
    """How a rollout ended, as the status records it.

    `at`, in seconds since 1970, and the report of an experiment do not count in comparisons.
    """

    version: str
    outcome: str
    reason: str
    at: float = field(default=0.0, compare=False)
    report: Document = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, entry: Document) -> Self:
        """Read an entry of the status, whose time is RFC 3339."""
        at = datetime.fromisoformat(entry["at"]).timestamp()
        return cls(entry["version"], entry["outcome"], entry["reason"], at, entry.get("report", {}))


@dataclass(frozen=True)
class Promotion:
    """One ModelPromotion in a scenario's namespace."""

    namespace: ScenarioNamespace
    name: str = "loans"

    @property
    def path(self) -> str:
        """Return the object's path in the API."""
        return f"{MODEL_PROMOTIONS.format(self.namespace.name)}/{self.name}"

    def document(self, **spec: object) -> Document:
        """Return a ModelPromotion of the namespace's model with short intervals; None leaves a field out."""
        fields = {
            "model": {"name": self.namespace.model, "alias": "production"},
            "steps": STEPS,
            "analysis": ANALYSIS,
            "canary": CANARY,
            "progressDeadlineSeconds": 300,
            **spec,
        }
        return {
            "apiVersion": "creditrisk.io/v1alpha1",
            "kind": "ModelPromotion",
            "metadata": {"name": self.name},
            "spec": {name: value for name, value in fields.items() if value is not None},
        }

    def apply(self, **spec: object) -> None:
        """Create or update the object with this spec, as a user does."""
        self.apply_document(self.document(**spec))

    def apply_document(self, document: Document) -> None:
        """Create or update the object with kubectl."""
        self.namespace.kubectl("apply", "-f", "-", text=yaml.safe_dump(document))

    def delete(self) -> None:
        """Delete the object; what it owned goes with it, a moment later."""
        self.namespace.environment.api.delete(self.path)

    def status(self) -> Document:
        """Return the status."""
        found: Document = self.namespace.environment.api.get(self.path).get("status", {})
        return found

    def history(self) -> list[EndedRollout]:
        """Return the ended rollouts, newest first."""
        return [EndedRollout.read(entry) for entry in self.status().get("history", [])]

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Return status and reason of each condition by its type."""
        return {c["type"]: (c["status"], c["reason"]) for c in self.status().get("conditions", [])}

    def condition_message(self, kind: str) -> str:
        """Return the message of a condition."""
        (message,) = (c["message"] for c in self.status()["conditions"] if c["type"] == kind)
        return str(message)

    def events(self) -> dict[str, str]:
        """Return the newest message of the object's Events by reason."""
        return {event["reason"]: event["message"] for event in self._events()}

    def event_messages(self, reason: str) -> list[str]:
        """Return the messages of all of the object's Events with this reason, the oldest first."""
        return [event["message"] for event in self._events() if event["reason"] == reason]

    def table(self) -> list[str]:
        """Return the lines that `kubectl get mp` prints, for all ModelPromotions of the namespace."""
        return self.namespace.kubectl("get", "mp").splitlines()

    def wait_for(
        self, what: str, reached: Callable[[Document], object], seconds: float = LONGEST_WAIT_SECONDS
    ) -> Document:
        """Wait until the status is as wanted, and return it."""
        seen: Document = {}

        def look() -> bool:
            nonlocal seen
            seen = self.status()
            return bool(reached(seen))

        self.namespace.wait_until(what, look, seconds, detail=lambda: _short(seen))
        return seen

    def wait_for_phase(self, phase: str) -> Document:
        """Wait until the promotion is in a phase, and return its status."""
        return self.wait_for(f"phase {phase}", lambda status: status.get("phase") == phase)

    def wait_for_weight(self, weight: int) -> Document:
        """Wait until every stable pod routes this percentage of the applicants to the canary; return the status."""
        return self.wait_for(f"{weight} % at the canary", lambda status: (
            status.get("phase") == "Progressing" and status["verifiedWeight"] == weight))  # fmt: skip

    def annotate(self, action: str) -> None:
        """Ask for a manual action."""
        self.namespace.kubectl("annotate", f"mp/{self.name}", f"creditrisk.io/action={action}")

    def act(self, action: str) -> None:
        """Ask for a manual action and wait until the operator has handled it."""
        self.annotate(action)
        self.namespace.wait_until(f"{action} is handled", lambda: "creditrisk.io/action" not in (
            self._metadata().get("annotations") or {}))  # fmt: skip

    def _events(self) -> list[Document]:
        """Return the object's Events, the oldest first; their times are in whole seconds."""
        api, uid = self.namespace.environment.api, self._metadata()["uid"]
        selector = quote(f"involvedObject.uid={uid}")
        found = api.get(f"/api/v1/namespaces/{self.namespace.name}/events?fieldSelector={selector}")["items"]
        return sorted(found, key=lambda event: str(event["lastTimestamp"]))

    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self.namespace.environment.api.get(self.path)["metadata"]
        return metadata


def column(lines: Sequence[str], name: str) -> list[str]:
    """Return a column of a table that kubectl printed, which aligns the cells with the heading."""
    heading, *rows = lines
    start = heading.index(name)
    following = heading[start + len(name) :].lstrip()
    end = heading.index(following, start) if following else None
    return [row[start:end].strip() for row in rows]


def _short(status: Document) -> str:
    return json.dumps({key: value for key, value in status.items() if key not in {"window", "conditions"}})
