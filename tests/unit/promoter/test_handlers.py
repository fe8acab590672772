"""kopf's settings: a watch that is refused, or not answered, never ends the operator."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from promoter.handlers import create_settings


def test_a_refused_watch_is_retried_without_an_end_and_at_least_every_five_seconds() -> None:
    pauses = create_settings().networking.error_backoffs
    assert isinstance(pauses, Iterable)
    # kopf iterates anew for each request.
    for _ in range(2):
        found = list(islice(pauses, 10_000))
        assert len(found) == 10_000
        assert found[0] <= 1
        assert max(found) <= 5
