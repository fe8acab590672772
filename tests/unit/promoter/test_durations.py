"""Durations in the form Kubernetes users know."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter.api import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("1.5m", 90), ("250ms", 0.25), ("7d", 604800), ("1d12h", 129600)],
)
def test_a_duration_is_a_list_of_numbers_with_units(text: str, seconds: float) -> None:
    assert durations.seconds(text) == seconds


@given(st.text(max_size=8).filter(lambda text: not re.match(durations.PATTERN_WITH_DAYS, text)))
def test_anything_else_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        durations.seconds(text)


def test_days_are_allowed_only_where_no_rule_of_the_api_server_reads_them() -> None:
    assert not re.match(durations.PATTERN, "7d")
    assert re.match(durations.PATTERN_WITH_DAYS, "7d")
