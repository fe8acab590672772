import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.learning.calibration import calibrate


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 3), st.floats(-1, 1), st.integers(0, 1000))
def test_calibration_undoes_a_known_distortion(slope: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, 20_000)
    target = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    fitted = calibrate((logit - shift) / slope, target)
    assert fitted.slope == pytest.approx(slope, rel=0.15)
    assert fitted.intercept == pytest.approx(shift, abs=0.15)


def test_an_inverted_ranking_is_calibrated_to_the_base_rate() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 200).astype(float)
    fitted = calibrate(-target + 0.01 * rng.random(200), target)
    assert fitted.slope == 0
    assert fitted.apply(np.zeros(1))[0] == pytest.approx(target.mean())
