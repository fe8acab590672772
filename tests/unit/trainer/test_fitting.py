from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.data.dataset import Dataset, encode
from trainer.data.declaration import FeatureDeclaration
from trainer.data.reading import read_table
from trainer.data.validation import validate
from trainer.learning.fitting import EpochReport, Fitted, fit, learning_rate
from trainer.learning.hyperparameters import Hyperparameters

SMALL = Hyperparameters(heads=5, hidden=(16,), bins=4, batch_rows=128, epochs=4, learning_rate=0.01)


@pytest.fixture(scope="module")
def data(declaration: FeatureDeclaration, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    table = read_table("synthetic", declaration, scratch=tmp_path_factory.mktemp("data"), synthetic_rows=2_000, seed=0)
    return encode(validate(table, declaration, minimum_rows=100), declaration)


def train(data: Dataset, declaration: FeatureDeclaration, *, seed: int = 0, **rest: object) -> Fitted:
    arguments = {"hyperparameters": SMALL, "on_epoch": lambda _: None, **rest}
    return fit(
        data,
        inputs=declaration.inputs,
        seed=seed,
        **arguments,  # type: ignore[arg-type]
    )


def weights(fitted: Fitted) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in fitted.network.parameters()]


def test_the_same_data_and_seed_give_bit_identical_weights(data: Dataset, declaration: FeatureDeclaration) -> None:
    assert weights(train(data, declaration)) == weights(train(data, declaration))


def test_another_seed_gives_other_weights(data: Dataset, declaration: FeatureDeclaration) -> None:
    assert weights(train(data, declaration)) != weights(train(data, declaration, seed=1))


def test_a_killed_run_resumes_to_bit_identical_weights(
    data: Dataset, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    later: list[int] = []

    def killed(report: EpochReport) -> None:
        if report.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, declaration, checkpoint=checkpoint, on_epoch=killed)
    resumed = train(data, declaration, checkpoint=checkpoint, on_epoch=lambda report: later.append(report.epoch))
    assert later == [2, 3]
    assert weights(resumed) == weights(train(data, declaration))
    assert [report.epoch for report in resumed.history] == [0, 1, 2, 3]


def test_training_stops_when_no_head_improves_any_more(data: Dataset, declaration: FeatureDeclaration) -> None:
    eager = Hyperparameters(heads=5, hidden=(64,), batch_rows=64, epochs=60, patience=2, learning_rate=0.03)
    assert len(train(data, declaration, hyperparameters=eager).history) < 60


def test_no_head_trains_on_the_rows_it_is_validated_on(data: Dataset, declaration: FeatureDeclaration) -> None:
    one_head = replace(SMALL, heads=1, epochs=2)
    fitted = train(data, declaration, hyperparameters=one_head)
    changed = data.take(np.arange(len(data)))
    changed.target[fitted.out_of_fold_rows] = 1 - changed.target[fitted.out_of_fold_rows]
    again = train(changed, declaration, hyperparameters=replace(one_head, epochs=1))
    once = train(data, declaration, hyperparameters=replace(one_head, epochs=1))
    assert weights(again) == weights(once)


def test_out_of_fold_rows_cover_all_rows_when_there_is_a_head_per_fold(
    data: Dataset, declaration: FeatureDeclaration
) -> None:
    fitted = train(data, declaration)
    assert sorted(fitted.out_of_fold_rows) == list(range(len(data)))


def test_the_learning_rate_warms_up_and_ends_near_zero() -> None:
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == 1
    assert rates[0] < 0.2
    assert rates[-1] < 0.01


def test_rows_of_weight_0_have_no_influence(data: Dataset, declaration: FeatureDeclaration) -> None:
    ignored = np.arange(len(data)) % 3 == 0
    weighted = replace(data, weight=np.where(ignored, 0.0, 1.5))
    other = replace(weighted, target=np.where(ignored, 1 - data.target, data.target).astype(np.float32))
    assert weights(train(weighted, declaration)) == weights(train(other, declaration))
    assert weights(train(weighted, declaration)) != weights(train(data, declaration))


def test_equal_weights_of_any_scale_change_nothing(data: Dataset, declaration: FeatureDeclaration) -> None:
    alike = replace(data, weight=np.full(len(data), 4.0))
    assert weights(train(alike, declaration)) == weights(train(data, declaration))


@pytest.mark.parametrize("class_weight", [0.1, 20.0, "balanced"])
def test_class_weights_leave_the_mean_probability_where_it_was(
    class_weight: float, data: Dataset, declaration: FeatureDeclaration
) -> None:
    """Before any calibration: the prior is corrected in the network itself."""
    hyperparameters = replace(SMALL, class_weight=class_weight, epochs=8)
    fitted = train(data, declaration, hyperparameters=hyperparameters)
    assert weights(fitted) != weights(train(data, declaration, hyperparameters=replace(SMALL, epochs=8)))
    probability = 1 / (1 + np.exp(-fitted.out_of_fold_logit))
    assert probability.mean() == pytest.approx(data.target.mean(), abs=0.03)


def test_class_weights_and_sample_weights_are_resumed_bit_identically(
    data: Dataset, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    weighted = replace(data, weight=np.arange(len(data)) % 5 / 2)
    balanced = replace(SMALL, class_weight="balanced")
    checkpoint = tmp_path / "checkpoint.pt"
    whole = train(weighted, declaration, checkpoint=checkpoint, hyperparameters=balanced)
    again = train(weighted, declaration, checkpoint=checkpoint, hyperparameters=balanced)
    assert weights(again) == weights(whole)
