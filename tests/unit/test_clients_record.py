"""What the end-to-end tests read from their clients' record."""

from __future__ import annotations

import pytest

from e2e.clients import Answer, sent_back


def answered(at: float, version: str, applicant: str = "a", *, seconds: float = 0.1, status: int = 200) -> Answer:
    pod = {"1": "scoring-x", "2": "scoring-canary-y"}.get(version, "scoring-z")
    return Answer(at, at + seconds, applicant, status, version, pod)


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        ([answered(1, "1"), answered(2, "2"), answered(3, "2")], 0),
        ([answered(1, "2"), answered(2, "1"), answered(3, "1")], 2),
        ([answered(1, "2"), answered(2, "1", "b")], 0),
        ([answered(1, "2"), answered(2, "1", status=500)], 0),
        # Both were under way at the same time.
        ([answered(1, "2", seconds=2), answered(2, "1")], 0),
        ([answered(1, "2", seconds=9), answered(2, "2"), answered(3, "1")], 1),
    ],
    ids=["keeps it", "goes back", "another applicant", "not answered", "overlapping", "the first that came"],
)
def test_an_applicant_was_sent_back_if_the_old_version_answered_after_the_new(
    answers: list[Answer], count: int
) -> None:
    assert len(sent_back(answers, "2")) == count


def test_any_pod_of_the_new_version_counts_and_only_requests_within_the_rollout() -> None:
    updated = Answer(1, 1.1, "a", 200, "2", "scoring-updated")
    assert len(sent_back([updated, answered(5, "1")], "2")) == 1
    assert not sent_back([updated, answered(5, "1")], "2", until=5)
    assert not sent_back([updated, answered(5, "1")], "2", since=2)
