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


def test_weights_decide_whose_ranking_counts() -> None:
    """One model ranks the first half well, the other one the second."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 2_000).astype(float)
    good, noise = target + rng.normal(0, 0.5, 2_000), rng.normal(0, 0.5, 2_000)
    first = np.arange(2_000) < 1_000
    champion, challenger = np.where(first, good, noise), np.where(first, noise, good)
    assert compare_auc(target, champion, challenger, np.where(first, 0.0, 1.0), seed=0).lower_bound > 0.1
    assert compare_auc(target, champion, challenger, np.where(first, 1.0, 0.0), seed=0).auc_difference < -0.1
    unweighted = compare_auc(target, champion, challenger, seed=0)
    assert compare_auc(target, champion, challenger, np.full(2_000, 3.0), seed=0) == unweighted
