"""`get`, `list`, `history`, `explain` against an API server: what people read, what programs read, and how it fails."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from kubectl_promotion.__main__ import COMPLETION_VARIABLE
from kubectl_promotion.completion import main
from promoter.api.status import Phase, Verdict
from shell import Shell
from unit.kubectl_promotion.api_server import ApiServer
from unit.kubectl_promotion.documents import (
    ERRORS,
    SHIFT,
    analyzed,
    condition,
    document,
    failed_state,
    state_in,
    workload_objects,
)

GROUP = "/apis/creditrisk.io/v1alpha1"


def words(text: str) -> str:
    """Return a text with single spaces."""
    return " ".join(text.split())


def test_a_rollout_is_shown_with_versions_pods_steps_checks_and_what_is_next(
    server: ApiServer, promotion: Shell
) -> None:
    state = state_in(Phase.PROGRESSING, analysis=analyzed(Verdict.INCONCLUSIVE, SHIFT, ERRORS), failures=1)
    server.store.put(document(state))
    server.store.objects = workload_objects()
    shown = promotion("get", "loans")
    assert shown.code == 0, shown.err
    text = words(shown.out)
    for expected in (
        "bank/loans", "credit-risk, alias production", "Progressing, step 2/4",
        "25 % of the applicants are answered by the canary", "version 7 stable, 75 %", "version 8 canary, 25 %",
        "Deployment scoring: 2 of 2 pods available", "Deployment scoring-canary: 0 of 1 pods available",
        "scoring-a Ready, 2h", "scoring-canary-x CrashLoopBackOff, 3 restarts",
        "✔ 1: 5 % for 5m", "◌ 2: 25 % for 5m, 2m", "· 3: pause at 25 % until resumed",
        "step 3/4 (pause at 25 % until resumed) in 2m", "a rollback after 1 more Failed verdict (1 so far)",
        "DecisionShift 0.091 0.05 - 1060 ✖ Failed", "ErrorRate 0.001 0.02 - 1060 ✔ Successful", SHIFT.message,
    ):  # fmt: skip
        assert expected in text, expected
    assert "\x1b" not in shown.out


def test_a_check_is_shown_with_its_confidence_interval_if_the_operator_gives_one(
    server: ApiServer, promotion: Shell
) -> None:
    found = document(state_in(Phase.PROGRESSING, analysis=analyzed(Verdict.SUCCESSFUL, ERRORS, SHIFT)))
    found["status"]["analysis"]["results"][0] |= {"lower": 0.0004, "upper": 0.0031}
    found["status"]["analysis"]["results"][1] |= {"lower": 0.06}
    server.store.put(found)
    text = words(promotion("get").out)
    assert "ErrorRate 0.001 0.02 0.0004 to 0.0031 1060" in text
    assert "DecisionShift 0.091 0.05 >= 0.06 1060" in text


def test_a_version_that_is_kept_for_a_return_is_shown_as_such(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.IDLE, canary_version=None, kept_version="6", kept_until=time.time() + 90)))
    server.store.objects = workload_objects()
    text = words(promotion("get").out)
    assert "version 6 kept, 0 %" in text
    assert "version 6 stays ready for a return within seconds (kubectl promotion undo), and is deleted in 1m" in text


def test_programs_get_the_object_as_it_is(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.IDLE)))
    assert promotion.json("get", "mp/loans") == server.store.promotions["bank", "loans"]
    assert yaml.safe_load(promotion("get", "loans", "-o", "yaml").out) == server.store.promotions["bank", "loans"]


def test_the_only_one_needs_no_name_and_one_of_several_does(server: ApiServer, promotion: Shell) -> None:
    none = promotion("get")
    assert (none.code, "no ModelPromotion in namespace bank" in none.err) == (3, True)
    server.store.put(document(state_in(Phase.IDLE)))
    assert promotion("get").code == 0
    server.store.put(document(state_in(Phase.IDLE), name="cards"))
    several = promotion("get")
    assert (several.code, several.err) == (2, "namespace bank has 2 ModelPromotions; name one of cards, loans\n")
    assert promotion("get", "deploy/loans").code == 2


def test_namespace_and_context_are_those_of_kubectl(server: ApiServer, promotion: Shell, tmp_path: Path) -> None:
    server.store.put(document(state_in(Phase.IDLE), namespace="other"))
    assert promotion("get", "loans").code == 3
    assert promotion("get", "loans", "-n", "other").code == 0
    assert promotion("get", "--context", "other").code == 0
    elsewhere = server.write_kubeconfig(tmp_path / "elsewhere", namespace="other")
    assert promotion("get", f"--kubeconfig={elsewhere}").code == 0


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [(401, 4, "not logged in to the cluster"), (403, 4, 'no permission: modelpromotions.creditrisk.io is refused'),
     (503, 5, "refused")],
)  # fmt: skip
def test_a_refusal_says_what_and_has_an_exit_code(
    server: ApiServer, promotion: Shell, code: int, exit_code: int, message: str
) -> None:
    server.store.refuse["GET"] = code
    ended = promotion("get", "loans")
    assert (ended.code, ended.out) == (exit_code, "")
    assert message in ended.err


def test_what_is_not_there_is_named(server: ApiServer, promotion: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = promotion("get", "cards")
    assert (missing.code, missing.err) == (3, 'modelpromotions.creditrisk.io "cards" not found\n')
    server.store.has_definition = False
    undefined = promotion("list", "-A")
    assert (undefined.code, "this cluster has no ModelPromotions" in undefined.err) == (3, True)
    unknown = promotion("list", "--context", "nowhere")
    assert (unknown.code, "cannot locate context nowhere" in unknown.err) == (2, True)
    nothing = promotion("list", "--kubeconfig", "/nowhere")
    assert (nothing.code, "no cluster is chosen" in nothing.err) == (2, True)
    server.stop()
    away = promotion("list", "-n", "bank")
    assert (away.code, "cannot reach the cluster" in away.err) == (5, True)
    monkeypatch.setenv("PATH", "/nowhere")
    absent = promotion("list", "-n", "bank")
    assert (absent.code, "kubectl is not on the PATH" in absent.err) == (2, True)


def test_pods_that_may_not_be_seen_are_not_shown_and_nothing_else_fails(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PROGRESSING)))
    server.store.objects = workload_objects()
    server.store.refuse["/api/v1/namespaces/bank/pods"] = 403
    shown = promotion("get")
    assert shown.code == 0
    assert "Deployment scoring: 2 of 2" in words(shown.out)
    assert "not shown: no permission" in shown.out


def test_messages_cannot_drive_the_terminal(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PROGRESSING, message="\x1b[2Jgone [bold]red[/bold]\u202e")))
    for command in ("get", "list", "explain"):
        shown = promotion(command)
        assert "\ufffd[2Jgone [bold]red[/bold]\ufffd" in shown.out
        assert "\x1b" not in shown.out


def test_problems_and_changes_not_seen_yet_are_shown(server: ApiServer, promotion: Shell) -> None:
    state = state_in(Phase.IDLE, observed_generation=2, conditions=(
        condition("Degraded", "True", "CapacityLow", "1 of 2 pods"), condition("Ready", "False", "NoPodAvailable", ""),
        condition("Drifted", "True", "DriftFound", "income is not what it was"),
    ))  # fmt: skip
    server.store.put(document(state, action="abort", steps=[{"weight": 5}]))
    text = words(promotion("get").out)
    for expected in ("Degraded: CapacityLow", "NotReady: NoPodAvailable", "Drifted: DriftFound",
                     "has not seen the newest spec yet",
                     "abort, not handled by the operator yet", "nothing: the spec is invalid"):  # fmt: skip
        assert expected in text, expected


def test_a_status_of_a_newer_operator_is_an_error_that_says_so(server: ApiServer, promotion: Shell) -> None:
    found = document(state_in(Phase.IDLE))
    found["status"]["phase"] = "Contemplating"
    server.store.put(found)
    ended = promotion("get", "loans")
    assert (ended.code, "upgrade the plugin" in ended.err, "status.phase" in ended.err) == (1, True, True)


def test_the_list_has_a_line_each(server: ApiServer, promotion: Shell) -> None:
    assert promotion("list").out == "no ModelPromotions in namespace bank\n"
    server.store.put(document(state_in(Phase.PROGRESSING)))
    server.store.put(document(state_in(Phase.IDLE), name="cards", namespace="other"))
    lines = [words(line) for line in promotion("list", "-A").out.splitlines()]
    assert lines[0].startswith("NAMESPACE NAME PHASE")
    assert lines[1].startswith("bank loans ◌ Progressing 2/4 25 % 7 8 8 -")
    assert lines[2].startswith("other cards ✔ Idle")
    assert [found["metadata"]["name"] for found in promotion.json("list")] == ["loans"]


def test_history_lists_rollouts_and_what_undo_can_go_back_to(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(failed_state()))
    text = words(promotion("history").out)
    assert "8 ✖ RolledBack AnalysisFailed" in text
    assert "stable: 7; before it: 6, 5" in text
    assert promotion.json("history")["stableHistory"] == ["6", "5"]


def test_a_rollback_is_explained(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(failed_state()))
    text = words(promotion("explain").out).lower()
    for expected in ("Version 8 was rolled back 5m", "measurably worse", "AnalysisFailed", SHIFT.message,
                     "DecisionShift was 0.091; the limit is 0.05, over 1060 answers", "No request failed because of it",
                     "kubectl promotion diff", "kubectl promotion retry"):  # fmt: skip
        assert expected.lower() in text, expected
    assert promotion.json("explain")["version"] == "8"
    unknown = promotion("explain", "--version", "99")
    assert (unknown.code, "known are 8" in unknown.err) == (3, True)


def test_completion_speaks_cobras_form(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in (COMPLETION_VARIABLE, "_TYPER_COMPLETE_ARGS", "_TYPER_COMPLETE_FISH_ACTION"):
        # So that they are gone after this test.
        monkeypatch.setenv(variable, "")
    server.store.put(document(state_in(Phase.IDLE)))
    for typed, wanted in (
        (["pro"], ["promote\t", ":4"]),
        (["get", ""], ["loans", ":4"]),
        (["undo", "loans", "--to-version", ""], ["7", "8", "6", "5", ":4"]),
        (["get", "--context", "o"], ["other", ":4"]),
        (["get", "-n", "other", ""], [":4"]),
        (["lint", ""], [":0"]),
    ):
        monkeypatch.setattr("sys.argv", ["kubectl_complete-promotion", *typed])
        main()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(wanted), (typed, lines)
        assert all(line.startswith(start) for line, start in zip(lines, wanted, strict=True)), (typed, lines)


def test_json_is_not_colored_even_if_colors_are_forced(
    server: ApiServer, promotion: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    server.store.put(document(state_in(Phase.IDLE)))
    assert json.loads(promotion("get", "-o", "json").out)
    assert "\x1b[" in promotion("get").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in promotion("get").out
