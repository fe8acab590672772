"""What changes a rollout: the right patch, only where it applies, and what the operator made of it."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any

import pytest

from promoter.api.status import Event, Phase, State
from shell import Shell
from unit.kubectl_promotion.api_server import ApiServer, Document
from unit.kubectl_promotion.documents import EXPERIMENT, completed_state, document, failed_state, state_in

ACTION = "creditrisk.io/action"


def answer_as_operator(server: ApiServer, **changes: Any) -> list[str]:
    """Handle each action as the operator does: first the status, then the annotation; return the list of actions."""
    handled: list[str] = []

    def handle(patched: Document) -> None:
        action = patched["metadata"].get("annotations", {}).get(ACTION)
        if not action:
            return
        handled.append(action)
        server.store.set_status("loans", handledAction=action, **changes)
        found = copy.deepcopy(server.store.promotions["bank", "loans"])
        del found["metadata"]["annotations"][ACTION]
        server.store.put(found)
        server.store.set_status("loans", handledAction="")

    server.store.on_patch = handle
    return handled


def spec_of(server: ApiServer) -> Document:
    found: Document = server.store.promotions["bank", "loans"]["spec"]
    return found


@pytest.mark.parametrize(
    ("state", "command", "action"),
    [
        (state_in(Phase.PAUSED), ("resume",), "resume"),
        (state_in(Phase.PAUSED), ("promote",), "resume"),
        (state_in(Phase.PROGRESSING), ("promote", "--skip-step"), "skip-step"),
        (state_in(Phase.PROGRESSING), ("promote", "--full"), "promote"),
        (state_in(Phase.PROMOTING), ("abort",), "abort"),
        (failed_state(), ("retry",), "retry"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_action_is_asked_for_and_its_outcome_reported(
    server: ApiServer, promotion: Shell, state: State, command: tuple[str, ...], action: str
) -> None:
    server.store.put(document(state))
    handled = answer_as_operator(server, message="as asked")
    ended = promotion(*command)
    assert (ended.code, ended.err) == (0, "")
    assert f"loans: {action} done" in ended.out
    assert "as asked" in ended.out
    assert handled == [action]


@pytest.mark.parametrize(
    ("state", "command", "words"),
    [
        (state_in(Phase.PROGRESSING), ("resume",), "promote --skip-step ends the current step"),
        (state_in(Phase.IDLE), ("promote",), "only a rollout that is paused"),
        (state_in(Phase.IDLE), ("promote", "--full"), "only a version whose canary is ready"),
        (state_in(Phase.STARTING), ("promote", "--skip-step"), "only a step of a rollout in progress"),
        (state_in(Phase.FINISHING), ("abort",), "see undo"),
        (state_in(Phase.IDLE), ("retry",), "only a version that failed or whose experiment is complete"),
        (completed_state(), ("retry",), "only a version that failed or whose experiment is complete"),
        (state_in(Phase.PROGRESSING), ("undo",), "abort it instead"),
        (failed_state(), ("undo", "--to-version", "8"), "see retry"),
        (state_in(Phase.IDLE, desired_version="7"), ("undo", "--to-version", "7"), "is stable already"),
    ],
)
def test_an_action_that_does_not_apply_is_not_asked_for(
    server: ApiServer, promotion: Shell, state: State, command: tuple[str, ...], words: str
) -> None:
    server.store.put(document(state))
    ended = promotion(*command)
    assert (ended.code, ended.out) == (4, "")
    assert words in ended.err
    assert "PATCH" not in {method for method, _ in server.store.requests}


def test_an_experiment_is_repeated_but_never_promoted(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(completed_state(), **EXPERIMENT))
    handled = answer_as_operator(server, message="retrying")
    assert (promotion("retry").code, handled) == (0, ["retry"])
    server.store.put(document(state_in(Phase.PROGRESSING), **EXPERIMENT))
    ended = promotion("promote", "--full")
    assert (ended.code, "an Experiment promotes nothing" in ended.err) == (4, True)


def test_what_the_operator_ignores_is_an_error(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.STARTING)))
    event = Event(reason="ActionIgnored", message="action promote does not apply", type="Warning", at=time.time())
    answer_as_operator(server, pendingEvents=[event.model_dump(mode="json", by_alias=True)])
    ended = promotion("promote", "--full")
    assert (ended.code, ended.err) == (4, "loans: action promote does not apply\n")


def test_an_operator_that_does_not_answer_is_waited_for_and_no_longer(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PAUSED)))
    ended = promotion("resume", "--timeout", "300ms")
    assert ended.code == 7
    assert "has not handled resume within 0.3 s" in ended.err
    assert promotion("resume", "--no-wait").out == "loans: asked for resume\n"
    other = promotion("abort", "--no-wait")
    assert (other.code, "the action resume is still waiting" in other.err) == (4, True)
    assert promotion("resume", "--timeout", "soon").code == 2


def test_the_same_action_twice_waits_until_the_operator_has_forgotten_the_first(
    server: ApiServer, promotion: Shell
) -> None:
    server.store.put(document(state_in(Phase.PAUSED, handled_action="resume")))
    handled = answer_as_operator(server)

    def forget() -> None:
        server.store.set_status("loans", handledAction="")

    timer = threading.Timer(1, forget)
    timer.start()
    assert promotion("resume").code == 0
    timer.join()
    assert handled == ["resume"]
    patched = next(index for index, (method, _) in enumerate(server.store.requests) if method == "PATCH")
    assert patched > 4, "the object was read again before it was changed"


def test_a_change_is_decided_anew_if_the_object_changed_meanwhile(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PROGRESSING)))
    # Between the command's read and its patch, the rollout ends.
    server.store.before_patch = lambda: server.store.put(document(state_in(Phase.IDLE)))
    ended = promotion("abort")
    assert (ended.code, "loans is in phase Idle" in ended.err) == (4, True)
    assert ACTION not in server.store.promotions["bank", "loans"]["metadata"]["annotations"]


def test_pause_and_resume_change_the_spec(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PROGRESSING)))
    assert "is paused" in promotion("pause").out
    assert spec_of(server)["suspend"] is True
    assert promotion("pause").out == "loans is paused already\n"
    assert promotion("resume").out == "loans goes on\n"
    assert spec_of(server)["suspend"] is False
    server.store.put(document(state_in(Phase.PAUSED), suspend=True))
    assert "resume once more" in promotion("resume").out


def test_undo_pins_the_version_before_and_follow_goes_back(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.IDLE, canary_version=None, stable_version="7", desired_version="7")))
    ended = promotion("undo")
    assert ended.code == 0
    assert "version 6, without a canary" in ended.out
    assert "kubectl promotion follow loans --alias production" in ended.out
    assert spec_of(server)["model"] == {"name": "credit-risk", "version": "6"}
    assert "through the steps" in promotion("undo", "--to-version", "5").out
    assert promotion("follow", "--stage", "Production").out == "loans follows the stage Production\n"
    assert spec_of(server)["model"] == {"name": "credit-risk", "stage": "Production"}
    assert promotion("follow").code == 0
    assert spec_of(server)["model"] == {"name": "credit-risk", "alias": "production"}
    server.store.put(document(state_in(Phase.IDLE, stable_history=())))
    nothing = promotion("undo")
    assert (nothing.code, "no former stable version" in nothing.err) == (3, True)


def test_no_permission_to_patch_is_said(server: ApiServer, promotion: Shell) -> None:
    server.store.put(document(state_in(Phase.PROGRESSING)))
    server.store.refuse["PATCH"] = 403
    ended = promotion("abort")
    assert (ended.code, "no permission" in ended.err) == (4, True)


@pytest.mark.parametrize(
    "command",
    [("promote", "--full", "--skip-step"), ("follow", "--alias", "a", "--stage", "b"), ("undo", "--to-version", "v7"),
     ("dance",), ("get", "--output", "xml")],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(server: ApiServer, promotion: Shell, command: tuple[str, ...]) -> None:
    assert promotion(*command).code == 2
