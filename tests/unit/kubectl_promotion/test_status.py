"""`status` waits as long as there is something to wait for, and its exit code says how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from promoter.api.status import HistoryEntry, Phase, State
from shell import Shell
from unit.kubectl_promotion.api_server import ApiServer
from unit.kubectl_promotion.documents import completed_state, document, failed_state, state_in

STABLE = {"stable_version": "8", "canary_version": None}
STOPPED = HistoryEntry(version="8", outcome="Stopped", reason="Superseded", at=1.0)


@pytest.mark.parametrize(
    ("state", "arguments", "code", "words"),
    [
        (state_in(Phase.IDLE, **STABLE), (), 0, "version 8 is promoted"),
        (state_in(Phase.FINISHING, stable_version="8"), (), 0, "version 8 is promoted"),
        (failed_state(), (), 6, "version 8 was rolled back (AnalysisFailed)"),
        (failed_state(), ("--version", "8"), 6, "version 8 was rolled back"),
        (state_in(Phase.PROGRESSING, canary_version="9", desired_version="9", history=(STOPPED,)),
         ("--version", "8"), 6, "was stopped (Superseded)"),
        (completed_state(), (), 0, "the experiment with version 8 is complete: 3000 answers at 30 %, 7000 by the"),
        (completed_state(completed_version=None, desired_version="7"), ("--version", "8"), 0,
         "change of the decline rate 0.0120 (0.0040 to 0.0200) over 2950 pairs"),
        (state_in(Phase.PROGRESSING), ("--no-wait",), 7, "not over: loans Progressing step 2/4"),
        (state_in(Phase.ROLLING_BACK), ("--timeout", "500ms"), 7, "not over within 500ms"),
        # The pointer was moved, and the operator has not noticed.
        (state_in(Phase.IDLE, **STABLE), ("--version", "9", "--timeout", "500ms"), 7, "Idle"),
        (state_in(Phase.IDLE, **STABLE, observed_generation=2), ("--no-wait",), 7, "not over"),
        (state_in(Phase.PAUSED), ("--stop-at-pause",), 8, "waiting for a person"),
        (state_in(Phase.PAUSED), ("--no-wait",), 7, "not over"),
    ],
)  # fmt: skip
def test_the_exit_code_says_how_it_ended(
    server: ApiServer, promotion: Shell, state: State, arguments: tuple[str, ...], code: int, words: str
) -> None:
    server.store.put(document(state))
    ended = promotion("status", *arguments)
    assert (ended.code, words in ended.out) == (code, True), ended


def test_an_invalid_spec_is_not_waited_for(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.IDLE), steps=[{"weight": 50, "duration": "1m"}, {"weight": 5}]))
    ended = promotion("status")
    assert (ended.code, "weights must not decrease" in ended.out) == (6, True)


@pytest.mark.parametrize(
    ("end", "code"), [(lambda: state_in(Phase.IDLE, **STABLE), 0), (failed_state, 6)], ids=["promoted", "failed"]
)
def test_progress_goes_to_stderr_and_the_result_to_stdout(
    server: ApiServer, promotion: Shell, end: Callable[[], State], code: int
) -> None:
    server.store.put(document(state_in(Phase.STARTING, message="waiting for the canary")))

    def roll_out() -> None:
        # A watch sends each change.
        server.store.wait_for_watch()
        for state in (state_in(Phase.PROGRESSING, message="step 2/4: live"), end()):
            server.store.put(document(state))

    operator = threading.Thread(target=roll_out)
    operator.start()
    found = promotion("status", "--version", "8")
    operator.join()
    assert found.code == code
    assert "step 2/4: live" in found.err
    assert len(found.out.splitlines()) == 1


def test_programs_get_the_result_as_a_document(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.IDLE, **STABLE)))
    found = promotion.json("status")
    assert (found["code"], found["status"]["stableVersion"]) == (0, "8")


def test_programs_get_the_report_of_an_experiment(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(completed_state(), steps=None, strategy="Experiment"))
    found = promotion.json("status")
    report = found["status"]["history"][0]["report"]
    assert (found["code"], report["championVersion"], report["challenger"]["declineRate"]) == (0, "7", 0.21)
    assert report["measured"][0] == {"name": "change of the decline rate", "value": 0.012, "lower": 0.004,
                                     "upper": 0.02, "samples": 2950, "paired": True}  # fmt: skip


def test_a_deleted_promotion_is_not_waited_for(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PROGRESSING)))

    def delete() -> None:
        server.store.wait_for_watch()
        server.store.delete("loans")

    user = threading.Thread(target=delete)
    user.start()
    ended = promotion("status")
    user.join()
    assert (ended.code, "was deleted" in ended.err) == (3, True)
