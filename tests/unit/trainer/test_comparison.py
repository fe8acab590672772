import numpy as np

from trainer.evaluation.comparison import compare_auc


def test_the_bootstrap_tells_a_clear_difference_from_none() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 3_000).astype(float)
    good, poor = target + rng.normal(0, 1, 3_000), target + rng.normal(0, 3, 3_000)
    assert compare_auc(target, poor, good, seed=0).lower_bound > 0.1
    assert compare_auc(target, good, poor, seed=0).lower_bound < -0.1
    same = compare_auc(target, good, good, seed=0)
    assert (same.auc_difference, same.lower_bound) == (0, 0)
