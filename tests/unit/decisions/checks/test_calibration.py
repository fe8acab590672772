"""Calibration by grade: which grade is the answer, and how often chance accuses a version that is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.checks.calibration import GradeCount, calibration


def test_the_grade_that_fails_is_the_answer_however_small_it_is() -> None:
    grades = [GradeCount("A", 1000, 20, 0.02), GradeCount("B", 30, 25, 0.1)]
    found = calibration(grades, 2, 0.05, 0.01, 0.01)
    assert found.value == pytest.approx(25 / 30 - 0.1)
    assert found.lower is not None
    assert found.lower > 0.05
    assert found.message.startswith("grade B: 25 of 30 defaulted, 3.0 expected")


def test_nobody_waits_for_a_small_grade() -> None:
    grades = [GradeCount("A", 1000, 20, 0.02), GradeCount("B", 3, 1, 0.1)]
    found = calibration(grades, 2, 0.05, 0.01, 0.01)
    assert found.message.startswith("grade A")
    assert found.upper is not None
    assert found.upper < 0.1


def test_more_grades_need_more_evidence() -> None:
    grades = [GradeCount("B", 100, 30, 0.1)]
    few, many = (calibration(grades, among, 0.05, 0.01, 0.01).lower for among in (1, 20))
    assert few is not None
    assert many is not None
    assert many < few


def test_a_version_that_is_right_is_hardly_ever_accused() -> None:
    """Five grades, judged at eight moments as outcomes arrive; at most a twentieth of the versions may ever fail."""
    generator = np.random.default_rng(11)
    pds, runs, looks, wrong = [0.01, 0.03, 0.08, 0.2, 0.4], 150, range(50, 401, 50), 0
    for _ in range(runs):
        defaults = {pd: np.cumsum(generator.random(400) < pd) for pd in pds}
        for look in looks:
            grades = [GradeCount(f"{pd}", look, int(seen[look - 1]), pd) for pd, seen in defaults.items()]
            found = calibration(grades, 5, 0.0, 0.05, 0.05)
            assert found.lower is not None
            if found.lower > 0:
                wrong += 1
                break
    assert wrong <= runs * 0.05


def test_a_grade_at_three_times_its_pd_is_found() -> None:
    generator = np.random.default_rng(12)
    found = 0
    for _ in range(50):
        defaulted = int((generator.random(400) < 0.3).sum())
        lower = calibration([GradeCount("C", 400, defaulted, 0.1)], 5, 0.05, 0.001, 0.01).lower
        found += lower is not None and lower > 0.05
    assert found >= 49


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9)), max_size=12),
    st.floats(0, 1),
)
def test_whatever_was_counted_the_answer_is_finite(rows: list[tuple[int, float, float, int]], limit: float) -> None:
    grades = [GradeCount(f"{n}", loans, round(share * loans), pd, left)
              for n, (loans, share, pd, left) in enumerate(rows)]  # fmt: skip
    found = calibration(grades, 5, limit, 0.01, 0.01)
    if found.value is None:
        assert sum(grade.loans for grade in grades) == 0
    else:
        assert found.lower is not None
        assert found.upper is not None
        assert all(map(math.isfinite, (found.lower, found.value, found.upper)))
        assert found.lower - 1e-9 <= found.value <= found.upper + 1e-9
