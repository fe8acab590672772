"""What the page remembers of a rollout, and that it takes it from the operator's own turns."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from promoter.api.status import NotificationsState, Phase, State
from promoter.page.board import Board
from promoter.page.promotion_view import announcement, promotion_picture
from promoter.page.records import Record
from promoter.page.series import POINTS_KEPT, extended
from promoter.reconcile import reconcile, report_fault
from promoter.scheduler import Scheduler
from unit.promoter.fakes import ROLLING_OUT, document, fakes_for, in_first_step
from unit.promoter.page_rollouts import (
    HOSTILE,
    START,
    Clock,
    failed_state,
    hostile_state,
    judgment,
    move,
    progressing,
    promotion,
    record_of,
    resting,
    roll_out,
)


async def test_a_rollout_leaves_its_events_and_the_results_of_its_checks() -> None:
    clock = Clock()
    board, shown = Board(clock, ""), promotion("loans", resting())
    roll_out(board, clock, shown, analyses=3)
    record = record_of(board, "credit-risk", "loans")
    assert [event.kind for event in record.events] == ["WeightChanged", "RolloutStarted", "PointerMoved", "Promoted"]
    assert [point.at - START for point in record.series["DecisionShift"]] == [30, 60, 90]
    move(board, shown, progressing(clock.now, phase=Phase.PAUSED), performed="pause")
    assert (record.events[0].kind, record.events[0].message) == ("ActedManually", "action pause was performed")
    move(board, shown, resting(clock.now))
    roll_out(board, clock, shown, analyses=1)
    assert len(record.series["DecisionShift"]) == 1, "the next rollout begins anew"
    board.close()


def test_long_series_lose_every_second_point_but_neither_the_first_nor_the_last() -> None:
    series = extended({}, judgment(START, 0))
    for number in range(1, 1000):
        series = extended(series, judgment(START + number, 0))
        assert len(series["ErrorRate"]) <= POINTS_KEPT
        assert (series["ErrorRate"][0].at, series["ErrorRate"][-1].at) == (START, START + number)
    assert len(series["ErrorRate"]) > POINTS_KEPT / 2


def test_only_what_is_shown_counts_as_a_change() -> None:
    shown = promotion("loans", progressing())
    record = Record(shown)
    before = shown.state
    told = NotificationsState(number=1)
    window = before.window.model_copy(update={"totals": {"n": 1.0}})
    shown.state = before.model_copy(update={"window": window, "notifications": told})
    shown.document = {**shown.document, "metadata": {**shown.document["metadata"], "resourceVersion": "2"}}
    assert not record.update(shown)
    shown.state = before.model_copy(update={"weight": 50})
    assert record.update(shown)
    assert not record.update(shown)
    shown.document = {**shown.document, "spec": {}}
    assert record.update(shown)


def test_the_picture_says_what_the_plugin_says() -> None:
    shown = promotion("loans", progressing(analysis=judgment(START - 12, 1), analyzed_at=START - 12))
    picture = promotion_picture(Record(shown), START)
    for words in ("25 % of the applicants are answered by the canary", "credit-risk, alias production",
                  ">in 2m58s</time>, if every check is Successful then", "an analysis <time", "Version 7 <span",
                  "pause at 25 % until resumed", '<li class="current" aria-current="step">'):  # fmt: skip
        assert words in picture
    assert announcement(Record(shown).facts) == "Progressing, step 2/4, weight 25 %, checks Inconclusive"


def test_a_version_that_failed_is_shown_with_what_to_do() -> None:
    picture = promotion_picture(Record(promotion("loans", failed_state())), START)
    assert "Degraded: AnalysisFailed" in picture
    assert "What to do: compare it with the champion (kubectl promotion diff)" in picture
    assert "Not tried again until asked" in picture


def test_an_invalid_spec_is_shown_as_such() -> None:
    shown = promotion("loans", resting(), spec={"model": {"name": "m", "alias": "a", "version": "1"}})
    picture = promotion_picture(Record(shown), START)
    assert "Invalid spec" in picture
    assert "nothing: the spec is invalid" in picture


def test_no_value_becomes_markup() -> None:
    spec = {"model": {"name": HOSTILE, "alias": HOSTILE}}
    found = judgment(START, 1)
    hostile = [result.model_copy(update={"name": HOSTILE, "message": HOSTILE}) for result in found.results]
    state = hostile_state().model_copy(update={
        "analysis": found.model_copy(update={"results": tuple(hostile)}), "target": HOSTILE, "reason": HOSTILE,
        "history": tuple(entry.model_copy(update={"version": HOSTILE, "reason": HOSTILE})
                         for entry in resting().history),
    })  # fmt: skip
    record = Record(promotion("loans", state, spec))
    record.series = {HOSTILE: []}
    picture = promotion_picture(record, START)
    assert picture.count("&lt;script&gt;") > 10
    assert "<script" not in picture
    assert "<img" not in picture
    assert "\u202e" not in picture


async def test_the_board_takes_what_the_scheduler_does() -> None:
    adapters, *_ = fakes_for(ROLLING_OUT)
    board = Board(time.time, "")
    scheduler = Scheduler(
        dataclasses.replace(adapters, audience=board), reconcile, report_fault, poll_seconds=0.02, tick_seconds=0.005,
        settle_seconds=0,
    )  # fmt: skip
    found = document() | {"status": in_first_step(weight=5, verified_weight=5).to_document()}
    scheduler.upsert(found)
    topic = board.topic("bank", "loans")
    assert topic
    with topic.followed() as changed:
        async with asyncio.timeout(5):
            await changed.wait()
        record = record_of(board, "bank", "loans")
        assert record.facts.snapshot, "the turn observed the cluster"
        assert record.facts.snapshot.stable_pods[0].name in topic.picture()
        assert isinstance(record.facts.state, State)
        scheduler.remove(found)
        assert topic.deleted
    assert board.topic("bank", "loans") is None
    await scheduler.close()
    board.close()
