"""The CustomResourceDefinition: its copies, its descriptions, its columns, and the upgrade from an older one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter.api.crd import COLUMNS, crd, render
from promoter.api.resource import Owner
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.status import AnalysisResult, Condition, Phase, State, Verdict, Window
from promoter.api.summary import SUMMARY_LENGTH, summarize
from promoter.decision.conditions import degraded, stalled

Document = dict[str, Any]
ROOT = Path(__file__).parents[3]
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
STATUS = SCHEMA["properties"]["status"]
WIDTH = 120


@pytest.mark.parametrize("copy", ["charts/operator/files/crd.yaml", "manifests/modelpromotions.creditrisk.io.yaml"])
def test_the_copies_of_the_definition_are_rendered_from_the_models(copy: str) -> None:
    assert (ROOT / copy).read_text() == render(), "run `python -m promoter.api.crd` into it"


def test_every_field_of_the_spec_has_a_description() -> None:
    def missing(schema: dict[str, Any], path: str) -> list[str]:
        found = [f"{path}.{name}" for name, part in schema.get("properties", {}).items() if "description" not in part]
        for name, part in schema.get("properties", {}).items():
            found += missing(part.get("items", part), f"{path}.{name}")
        return found

    assert missing(SCHEMA["properties"]["spec"], "spec") == []


def row(name: str, status: Document) -> Document:
    """Return the cells that the API server computes for `kubectl get`, by column; the types are those of columns."""
    cells = {"Name": name}
    for column, _, path, priority in COLUMNS:
        if priority == 0:
            cells[column] = str(value_at({"status": status}, path))
    return cells


def value_at(document: Document, path: str) -> object:
    if match := re.fullmatch(r"\.status\.conditions\[\?\(@\.type==\"(\w+)\"\)\]\.status", path):
        found = [item["status"] for item in document["status"]["conditions"] if item["type"] == match[1]]
        return found[0] if found else ""
    value: Any = document
    for key in path.removeprefix(".").split("."):
        value = value.get(key, "") if isinstance(value, dict) else ""
    return value


def table(rows: list[Document]) -> list[str]:
    """Return lines as kubectl prints them: three spaces between columns, none after the last."""
    rows = [{column: column.upper() for column in rows[0]}, *rows]
    widths = {column: max(len(row[column]) for row in rows) for column in rows[0]}
    return ["   ".join(row[column].ljust(widths[column]) for column in row).rstrip() for row in rows]


READY = (Condition(type="Ready", status="True", reason="Serving", message="", last_transition_time=""),)


def in_phase(phase: Phase, message: str, **changes: Any) -> State:
    fields = {"stable_version": "117", "canary_version": "118", "weight": 100, "conditions": READY, **changes}
    return State(phase=phase, message=message, **fields)


def broken(spec: Document) -> State:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"model": {"name": "credit-risk"}} | spec)
    return stalled(in_phase(Phase.PROGRESSING, "step 1/3"), "InvalidSpec", str(raised.value), 2, 1_800_000_000.0)


FORBIDDEN = (
    "the operator has no permission for Deployment scoring; add scoring to `targets` in the values of the operator's "
    "chart (`operator.targets` in the stack's), or to the Role model-promotion-operator in namespace bank (GET ...)"
)
EXAMPLES = {
    "version 117 is stable": in_phase(Phase.IDLE, "version 117 is stable"),
    "waiting for the canary: pod": in_phase(
        Phase.STARTING, "waiting for the canary: pod scoring-canary-6d4cf56db6-x2x7w: ImagePullBackOff"),
    "step 2/4: live 100 % for 300 s": in_phase(
        Phase.PROGRESSING, "step 2/4: live 100 % for 300 s; Successful: error rate 0.000 <= 0.02 over 412 requests"),
    "step 2/4: paused until resumed": in_phase(
        Phase.PAUSED, "step 2/4: paused until resumed (creditrisk.io/action: resume) because of insufficient data "
        "(Inconclusive: ErrorRate: 3 of 100 samples)"),
    "version 118 was rolled back (AnalysisFailed)": in_phase(
        Phase.FAILED, "version 118 was rolled back (AnalysisFailed): Failed: score PSI 0.31 > 0.20 over 412 requests; "
        "not tried again until requested (creditrisk.io/action: retry) or the pointer moves"),
    "version 118 was rolled back": in_phase(
        Phase.FAILED, "version 118 was rolled back (ProgressDeadlineExceeded): the canary is not ready after 601 s"),
    "rollback: version 118 (PromotionDeadlineExceeded)": in_phase(
        Phase.ROLLING_BACK, "rollback: version 118 (PromotionDeadlineExceeded); waiting for weight 0: scoring-5f"),
    "InvalidSpec: spec.steps: weights must not decrease": broken(
        {"steps": [{"weight": 9, "duration": "1m"}, {"weight": 5, "duration": "1m"}]}),
    "InvalidSpec: spec.model: set at most one of": broken({"model": {"name": "m", "alias": "a", "version": "1"}}),
    "TargetForbidden: the operator has no permission": stalled(
        in_phase(Phase.IDLE, ""), "TargetForbidden", FORBIDDEN, 2, 1_800_000_000.0),
    "version 117 is stable; retrying": degraded(
        in_phase(Phase.IDLE, "version 117 is stable"), State(), "Retrying", "PATCH /apis/...: 500", 1_800_000_000.0),
}  # fmt: skip


def test_kubectl_get_shows_phase_versions_weight_ready_and_message_within_120_columns() -> None:
    rows = [row("credit-risk-small", state.to_document()) for state in EXAMPLES.values()]
    header, *lines = table(rows)
    assert header.split() == ["NAME", "PHASE", "STABLE", "CANARY", "WEIGHT", "READY", "MESSAGE"]
    assert [line for line in lines if len(line) > WIDTH] == []
    assert {cells["Ready"] for cells in rows} == {"True", "False"}
    for cells, beginning in zip(rows, EXAMPLES, strict=True):
        assert cells["Message"].startswith(beginning)


def test_a_message_of_several_lines_is_summarized_in_one() -> None:
    assert summarize("refused:\n  no\tspace left") == "refused: no space left"


@given(st.text(max_size=300))
def test_a_summary_is_never_longer_than_its_column(message: str) -> None:
    assert len(summarize(message)) <= SUMMARY_LENGTH


def test_a_new_promotion_without_a_status_has_a_line_too() -> None:
    assert set(row("credit-risk", {"conditions": []}).values()) == {"credit-risk", ""}


def test_the_whole_message_is_a_column_of_the_wide_output() -> None:
    assert ("Details", "string", ".status.message", 1) in COLUMNS


# The status of an operator that stored seconds since 1970, as the API server returns it once the new definition is
# there: with the defaults of the new fields filled in.
OLD_STATUS: Document = {
    "phase": "Paused", "message": "paused", "observedGeneration": 3, "target": "scoring", "stableVersion": "3",
    "canaryVersion": "4", "desiredVersion": "4", "stepIndex": 0, "step": "1/2", "weight": 5, "verifiedWeight": 5,
    "phaseStartedAt": 1764300000.25, "stepStartedAt": 1764300010.5, "analyzedAt": 0.0, "held": True,
    "pausedForData": False,
    "analysis": {"verdict": "Inconclusive", "at": 1764300040.125, "results": []},
    "window": {"openedAt": 1764300010.5, "pods": {"scoring-0": {"canary/outcome/ok": 3}}, "totals": {}},
    "route": {"generation": 1764300000, "stableVersion": "3", "canaryVersion": "4", "weight": 5, "raisedFrom": 1,
              "raisedAt": 1764300005.75, "mode": "live", "previousWeight": 0},
    "failedVersions": [{"version": "2", "reason": "Aborted", "message": "m", "at": 1764200000}],
    "history": [{"version": "2", "outcome": "RolledBack", "reason": "Aborted", "at": 1764200000.0}],
    "pendingEvents": [{"reason": "Paused", "message": "m", "type": "Normal", "at": 1764300040.125}],
    "conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "message": "m",
                    "lastTransitionTime": "2025-11-28T03:20:00Z", "observedGeneration": 3}],
}  # fmt: skip


def times_in(document: object, path: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    if isinstance(document, dict):
        for key, value in document.items():
            if re.search(r"(^at|At|Time)$", key):
                found[f"{path}{key}"] = value
            found |= times_in(value, f"{path}{key}.")
    if isinstance(document, list):
        for number, value in enumerate(document):
            found |= times_in(value, f"{path}{number}.")
    return found


def test_times_of_an_older_operator_are_read_and_rewritten_as_rfc_3339() -> None:
    state = State.model_validate(OLD_STATUS)
    assert state.phase_started_at == 1764300000.25
    assert state.failed_versions[0].at == 1764200000
    assert times_in(state.to_document()) == {
        "phaseStartedAt": "2025-11-28T03:20:00.250Z",
        "stepStartedAt": "2025-11-28T03:20:10.500Z",
        "analysis.at": "2025-11-28T03:20:40.125Z",
        "window.openedAt": "2025-11-28T03:20:10.500Z",
        "route.effectiveAt": "2025-11-28T03:20:05.750Z",
        "failedVersions.0.at": "2025-11-26T23:33:20.000Z",
        "history.0.at": "2025-11-26T23:33:20.000Z",
        "pendingEvents.0.at": "2025-11-28T03:20:40.125Z",
        "conditions.0.lastTransitionTime": "2025-11-28T03:20:00Z",
    }


def test_renamed_keys_of_an_older_operator_are_read_and_win_over_new_defaults() -> None:
    state = State.model_validate(OLD_STATUS)
    assert (state.route.previous_weight, state.route.effective_at) == (1, 1764300005.75)
    assert state.paused_for_data
    written = state.to_document()
    assert "held" not in written
    assert not {"raisedFrom", "raisedAt"} & written["route"].keys()


def test_an_api_server_keeps_the_renamed_keys_until_the_status_is_rewritten() -> None:
    assert {"held"} <= STATUS["properties"].keys()
    assert {"raisedFrom", "raisedAt"} <= STATUS["properties"]["route"]["properties"].keys()


def test_a_written_status_fits_the_schema_and_an_old_one_does_not() -> None:
    # That is why the operator rewrites an old status before anything else: until then, servers that validate the whole
    # object refuse even an annotation.
    validator = jsonschema.Draft7Validator(STATUS, format_checker=jsonschema.FormatChecker())
    assert list(validator.iter_errors(State.model_validate(OLD_STATUS).to_document())) == []
    assert [error.json_path for error in validator.iter_errors(OLD_STATUS)]


def test_a_status_survives_storing_to_the_millisecond() -> None:
    result = AnalysisResult(verdict=Verdict.SUCCESSFUL, at=1_800_000_000.123)
    state = State(phase=Phase.PROGRESSING, phase_started_at=1_800_000_000.001, step_started_at=1_800_000_000.999,
                  analysis=result)  # fmt: skip
    assert State.model_validate(state.to_document()).model_copy(update={"summary": ""}) == state


@pytest.mark.parametrize("text", ["yesterday", "2026-01-31T12:00:00"])
def test_a_time_that_is_not_rfc_3339_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="phaseStartedAt"):
        State.model_validate({"phaseStartedAt": text})


READINGS = {f"scoring-{pod}": {
    f"pair/segment/feature-{number // 80}/value-{number // 4 % 20}/{change}": float(number * pod) for number, change in
    enumerate(["both_approve", "both_decline", "approve_to_decline", "decline_to_approve"] * 160)
} for pod in range(100)}  # fmt: skip


def test_the_readings_of_a_hundred_pods_are_stored_in_a_fraction_of_what_an_api_server_takes() -> None:
    window = Window(opened_at=1_800_000_000.0, pods={**READINGS, "new": {"other": 1.5}}, totals=READINGS["scoring-1"])
    document = State(window=window).to_document()
    assert len(json.dumps(document)) < 300_000
    assert len(json.dumps(READINGS)) > 3_000_000
    assert "pods" not in document["window"]
    assert State.model_validate(document).window == window


def test_readings_that_an_older_operator_stored_are_read() -> None:
    assert State.model_validate(OLD_STATUS).window.pods == {"scoring-0": {"canary/outcome/ok": 3}}


def test_an_owner_is_named_as_kubectl_names_it() -> None:
    assert str(Owner("bank", "loans", "u-1")) == "bank/loans"


def test_the_table_in_the_guide_is_the_schema() -> None:
    def rows(schema: dict[str, Any], path: str = "") -> list[str]:
        found = []
        for name, part in schema.get("properties", {}).items():
            inner = rows(part.get("items", part), f"{path}{name}.")
            found += inner or [f"| `{path}{name}` | {part['type']} | {default(part)} | {allowed(part)} "
                               f"| {part['description']} |"]  # fmt: skip
        return found

    def default(part: dict[str, Any]) -> str:
        return str(part.get("default", "")).lower() if part["type"] == "boolean" else str(part.get("default", ""))

    def allowed(part: dict[str, Any]) -> str:
        if "minimum" in part:
            highest = part.get("maximum", "")
            return f"{part['minimum']:g} to {highest if isinstance(highest, str) else number(highest)}".strip()
        return ", ".join(part.get("enum", ()))

    def number(value: float) -> str:
        return f"{value:g}" if value < 1 else str(int(value))

    guide = (ROOT / "docs" / "promotion.md").read_text()
    table = guide.partition("## Every field")[2].partition("##")[0]
    written = [re.sub(r"\s+", " ", line) for line in table.splitlines() if line.startswith("| `")]
    assert written == [re.sub(r"\s+", " ", row) for row in rows(SCHEMA["properties"]["spec"])]
