"""The golden group of events and the golden records that follow from it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from conftest import REPOSITORY
from decisions.records.build import Scorer, SeededEvent
from decisions.records.model_versions import ModelVersion
from decisions.segments.events import decode_events

GOLDEN = REPOSITORY / "contracts" / "golden"
EVENT: dict[str, Any] = json.loads((GOLDEN / "decision-event.json").read_text("utf-8"))
RECORD: dict[str, Any] = json.loads((GOLDEN / "decision-record.json").read_text("utf-8"))
SEED = bytes.fromhex(EVENT["group"]["seed"])
PACKED = bytes.fromhex(EVENT["group"]["events"])
LOG_ID = UUID(EVENT["log"]["id"])
POD: str = EVENT["log"]["pod"]


def model_version() -> ModelVersion:
    document = EVENT["versions"][0]
    contract = (GOLDEN / document["contract"]).read_bytes()
    return ModelVersion(document["name"], document["version"], document["digests"], contract)


def seeded_events() -> list[SeededEvent]:
    events, problems = decode_events(PACKED)
    assert not problems
    scorer = Scorer(model_version())
    return [SeededEvent(event, SEED, scorer) for event in events]
