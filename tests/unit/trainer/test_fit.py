"""Training: it learns, it repeats itself, it goes on after a crash, and its measures are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from trainer.data import Loans
from trainer.evaluation import best_threshold, evaluate, expected_calibration_error
from trainer.fit import Epoch, Hyperparameters, fit, predict
from trainer.network import Network, quantile_edges

SHORT = Hyperparameters(epochs=3)


class PowerCutError(Exception):
    """Ends a training run in its middle."""


@pytest.fixture(scope="module")
def parts(synthetic_loans: Loans) -> tuple[Loans, Loans]:
    return synthetic_loans.rows(np.arange(3000)), synthetic_loans.rows(np.arange(3000, 4000))


def weights(network: Network) -> list[torch.Tensor]:
    return list(network.state_dict().values())


def test_a_short_training_tells_defaulters_from_payers(quick_network: Network, synthetic_loans: Loans) -> None:
    assert evaluate(synthetic_loans.default, predict(quick_network, synthetic_loans)).roc_auc > 0.8


def test_the_same_data_and_seed_give_the_same_weights_bit_by_bit(parts: tuple[Loans, Loans], tmp_path: Path) -> None:
    first = fit(*parts, SHORT, tmp_path / "a.pt", lambda _: None)
    second = fit(*parts, SHORT, tmp_path / "b.pt", lambda _: None)
    assert all(torch.equal(one, other) for one, other in zip(weights(first), weights(second), strict=True))


def test_a_run_that_was_cut_off_goes_on_and_ends_as_if_it_never_was(parts: tuple[Loans, Loans], tmp_path: Path) -> None:
    def cut_after_two(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise PowerCutError

    checkpoint, seen = tmp_path / "c.pt", []
    with pytest.raises(PowerCutError):
        fit(*parts, SHORT, checkpoint, cut_after_two)
    resumed = fit(*parts, SHORT, checkpoint, lambda epoch: seen.append(epoch.number))
    assert seen == [3]
    assert not checkpoint.exists()
    whole = fit(*parts, SHORT, tmp_path / "d.pt", lambda _: None)
    assert all(torch.equal(one, other) for one, other in zip(weights(resumed), weights(whole), strict=True))


def test_another_runs_checkpoint_is_not_gone_on_from(parts: tuple[Loans, Loans], tmp_path: Path) -> None:
    def cut(_: Epoch) -> None:
        raise PowerCutError

    seen: list[int] = []
    with pytest.raises(PowerCutError):
        fit(*parts, SHORT, tmp_path / "e.pt", cut)
    fit(*parts, Hyperparameters(epochs=3, seed=1), tmp_path / "e.pt", lambda epoch: seen.append(epoch.number))
    assert seen == [1, 2, 3]


def test_bin_edges_rise_even_where_a_feature_is_constant(synthetic_loans: Loans) -> None:
    constant = synthetic_loans.numeric.copy()
    constant[:, 0] = 5.0
    loans = Loans(constant, synthetic_loans.categorical, synthetic_loans.default, "", "")
    assert bool((quantile_edges(loans).diff(dim=1) > 0).all())


probabilities = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=60)


@given(probabilities)
def test_measures_agree_with_their_definitions(values: list[float]) -> None:
    probability = np.array(values, np.float32)
    default = np.array([index % 2 for index in range(len(values))], np.float32)
    measured = evaluate(default, probability)
    assert measured.roc_auc == pytest.approx(roc_auc_score(default, probability))
    assert measured.gini == pytest.approx(2 * measured.roc_auc - 1)
    assert 0 <= measured.ks <= 1
    assert measured.brier == pytest.approx(float(np.mean((probability - default) ** 2)), abs=1e-6)
    assert 0 <= measured.ece <= 1


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    probability = np.repeat(np.array([0.1, 0.5], np.float32), 10)
    default = np.array([1] + [0] * 9 + [1] * 5 + [0] * 5, np.float32)
    assert expected_calibration_error(default, probability) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(1 - default, probability) == pytest.approx(0.4, abs=1e-6)


def test_the_threshold_parts_where_the_distance_is_greatest() -> None:
    default = np.array([0, 0, 0, 1, 1, 1], np.float32)
    probability = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8], np.float32)
    threshold = best_threshold(default, probability)
    assert (probability >= np.float32(threshold)).tolist() == [False, False, False, True, True, True]
