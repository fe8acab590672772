"""Approvals: given by kubectl as whoever runs it, refused in the webhook's words, and shown with name and comment."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from kubectl_promotion.cluster.promotions import ModelPromotion
from kubectl_promotion.words.explanation import explain
from promoter.api.rules import parse_spec
from promoter.api.status import Approval, ApprovalsState, HistoryEntry, Phase, State
from promoter.api.timestamps import to_text
from promoter.words.outlook import outlook
from shell import Shell
from unit.kubectl_promotion.api_server import ApiServer, Document, Refusal
from unit.kubectl_promotion.documents import SPEC, document, state_in

COLLECTION = "/apis/creditrisk.io/v1alpha1/namespaces/bank/promotionapprovals"
ASKED = {"needed": 2, "groups": ["officers"]}
STEPS = [*SPEC["steps"][:2], {"pause": {"approvals": ASKED}}, SPEC["steps"][3]]
PARSED = parse_spec({**SPEC, "steps": STEPS})


def paused(*users: str, **changes: Any) -> State:
    given = tuple(Approval(user=user, groups=("officers",), comment="report read", at=time.time() - 100, step=2)
                  for user in users)  # fmt: skip
    approvals = ApprovalsState(asked=PARSED.approvals, given=given, trained_by=("carol",))
    return state_in(Phase.PAUSED, approvals=approvals, **changes)


def waiting(server: ApiServer, state: State, **spec: Any) -> None:
    server.store.put(document(state, **{"steps": STEPS, **spec}))


def admitted(server: ApiServer, user: str) -> list[Document]:
    """Fill in the name as the webhook does, and return the list of what was created."""
    created: list[Document] = []

    def store(found: Document) -> Document:
        created.append(found)
        return {**found, "spec": {**found["spec"], "user": user, "groups": ["officers"]}}

    server.store.on_create[COLLECTION] = store
    return created


def refused(server: ApiServer, code: int, message: str) -> None:
    def refuse(_: Document) -> Document:
        raise Refusal(code, message)

    server.store.on_create[COLLECTION] = refuse


def test_the_version_that_waits_is_approved_at_this_pause_without_saying_who_one_is(
    server: ApiServer, promotion: Shell
) -> None:
    state = paused("alice")
    waiting(server, state)
    created = admitted(server, "bob")
    ended = promotion("approve", "--comment", "report read", "--version", "8")
    assert (ended.code, ended.out, ended.err) == (0, "loans: bob approved version 8 at step 3/4, 2 of 2\n", "")
    (found,) = created
    assert (found["kind"], found["metadata"]["generateName"]) == ("PromotionApproval", "loans-")
    assert found["spec"] == {"promotion": "loans", "version": "8", "pausedAt": to_text(state.phase_started_at or 0),
                             "comment": "report read"}  # fmt: skip


DENIED = 'admission webhook "approvals.creditrisk.io" denied the request: mallory is in none of the groups'


@pytest.mark.parametrize(
    ("code", "message", "exit_code", "words"),
    [
        (403, DENIED, 4, "loans: mallory is in none of the groups\n"),
        (403, 'promotionapprovals.creditrisk.io is forbidden: User "jane" cannot create', 4, "no permission: promot"),
        (500, 'Internal error occurred: failed calling webhook "approvals.creditrisk.io": connection refused', 5,
         "the operator, which checks who approves, does not answer"),
        (404, "the server could not find the requested resource", 3, "approvals.enabled"),
    ],
)  # fmt: skip
def test_a_refusal_is_passed_on_in_words(
    server: ApiServer, promotion: Shell, code: int, message: str, exit_code: int, words: str
) -> None:
    waiting(server, paused())
    refused(server, code, message)
    ended = promotion("approve")
    assert (ended.code, ended.out) == (exit_code, "")
    assert words in ended.err


def test_an_approval_that_nobody_checked_is_an_error(server: ApiServer, promotion: Shell) -> None:
    waiting(server, paused())
    admitted(server, "")
    ended = promotion("approve")
    assert (ended.code, "does not count, because nobody checked it" in ended.err) == (4, True)


@pytest.mark.parametrize(
    ("state", "arguments", "words"),
    [
        (state_in(Phase.PROGRESSING), (), "nothing waits for approvals"),
        (paused(paused_for_data=True), (), "nothing waits for approvals"),
        (paused(), ("--version", "7"), "version 8 waits for approvals, not version 7"),
    ],
)
def test_what_does_not_wait_is_not_approved(
    server: ApiServer, promotion: Shell, state: State, arguments: tuple[str, ...], words: str
) -> None:
    waiting(server, state)
    ended = promotion("approve", *arguments)
    assert (ended.code, words in ended.err) == (4, True)
    assert "POST" not in {method for method, _ in server.store.requests}


def test_a_comment_that_is_too_long_is_refused(server: ApiServer, promotion: Shell) -> None:
    ended = promotion("approve", "--comment", "x" * 1001)
    assert (ended.code, "allowed are 1000" in ended.err) == (2, True)


def test_the_picture_shows_who_approved_and_who_is_missing(server: ApiServer, promotion: Shell) -> None:
    waiting(server, paused("alice"))
    shown = " ".join(promotion("get").out.split())
    assert re.search(r"Approvals: alice \(officers\) at step 3, 1m\d+s ago: report read", shown)
    assert "missing: 1 of 2 approvals by members of officers (alice)" in shown
    assert "3: pause at 25 % until 2 members of officers approve" in shown
    waits = promotion("status", "--stop-at-pause")
    assert waits.code == 8


def test_next_is_an_approval_and_afterwards_the_rest_of_the_pause() -> None:
    (line,) = outlook(PARSED, paused(analyzed_at=None), time.time())
    assert line == (
        "step 4/4 (50 % for 10m), once it has its approvals: 0 of 2 approvals by members of officers; to give one: "
        "kubectl promotion approve"
    )
    timed = parse_spec({**SPEC, "steps": [*STEPS[:2], {"pause": {"approvals": ASKED, "duration": "1h"}}, STEPS[3]]})
    (line,) = outlook(timed, paused("alice", "bob", analyzed_at=None), time.time())
    assert line.startswith("step 4/4 (50 % for 10m) in 57m")


def test_approvals_are_explained_during_and_after_the_rollout() -> None:
    now = time.time()
    found = explain(ModelPromotion.read(document(paused("alice"), steps=STEPS)), None, now)
    text = dict(found.points)["approvals"]
    assert re.match(r"alice \(officers\) at step 3, 1m\d+s ago: report read; missing: 1 of 2", text)
    ended = HistoryEntry(version="8", outcome="Promoted", reason="Promoted", at=now - 60, approved_by=("alice", "bob"))
    state = state_in(Phase.IDLE, stable_version="8", canary_version=None, history=(ended,))
    after = explain(ModelPromotion.read(document(state, steps=STEPS)), "8", now)
    assert after.points == (("approved by", "alice, bob"),)


def test_groups_are_impersonated_with_the_user(server: ApiServer, promotion: Shell) -> None:
    waiting(server, paused())
    admitted(server, "bob")
    assert promotion("approve", "--as", "bob", "--as-group", "officers", "--as-group", "staff").code == 0
    assert server.store.impersonated == [("bob", ["officers", "staff"])]
