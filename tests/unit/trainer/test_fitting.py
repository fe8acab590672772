from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trainer.data.dataset import Dataset, encode
from trainer.data.declaration import FeatureDeclaration
from trainer.data.reading import read_table
from trainer.data.validation import validate
from trainer.learning import rows as training_rows
from trainer.learning.fitting import Fitted, fit, learning_rate
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.state import EpochReport

SMALL = Hyperparameters(heads=5, hidden=(16,), bins=4, batch_rows=128, epochs=4).for_rows(2_000)


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


def test_training_stops_when_the_heads_improve_no_more(data: Dataset, declaration: FeatureDeclaration) -> None:
    eager = Hyperparameters(heads=5, hidden=(64,), batch_rows=64, epochs=60, patience=2, learning_rate=0.03)
    history = train(data, declaration, hyperparameters=eager).history
    losses = [report.validation_loss for report in history]
    assert len(history) == int(np.argmin(losses)) + 3 < 60


def test_no_head_trains_on_the_rows_it_is_validated_on(
    data: Dataset, declaration: FeatureDeclaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawn without regard to the outcomes, which change here.
    monkeypatch.setattr(training_rows, "_draw_folds", lambda target, folds, _: np.arange(len(target)) % folds)
    # A hidden layer of one unit has no room for linear models, some of which do learn from those rows.
    one_head = Hyperparameters(heads=1, hidden=(16, 1), bins=4, epochs=1).for_rows(len(data))
    fitted = train(data, declaration, hyperparameters=one_head)
    changed = data.take(np.arange(len(data)))
    outcomes = changed.target[fitted.out_of_fold_rows]
    assert 0 < outcomes.mean() < 1
    changed.target[fitted.out_of_fold_rows] = np.roll(outcomes, 1)
    assert weights(train(changed, declaration, hyperparameters=one_head)) == weights(fitted)


def test_each_fold_has_its_share_of_the_defaults(data: Dataset, declaration: FeatureDeclaration) -> None:
    one_head = Hyperparameters(heads=1, hidden=(16,), bins=4, epochs=1).for_rows(len(data))
    rare = rarely_defaulting(data, 23)
    fitted = train(rare, declaration, hyperparameters=one_head)
    assert len(fitted.out_of_fold_rows) == len(data) // 5
    assert rare.target[fitted.out_of_fold_rows].sum() in {4, 5}


def rarely_defaulting(data: Dataset, defaults: int) -> Dataset:
    rare = data.take(np.arange(len(data)))
    rare.target[np.flatnonzero(rare.target)[defaults:]] = 0
    return rare


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


def test_rows_of_weight_0_have_no_influence(
    data: Dataset, declaration: FeatureDeclaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawn without regard to the outcomes, which change here.
    monkeypatch.setattr(training_rows, "_draw_folds", lambda target, folds, _: np.arange(len(target)) % folds)
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


def draw(rows: int, rate: float, seed: int) -> tuple[Dataset, Dataset, FeatureDeclaration]:
    """Draw rows to train on and 20,000 others, whose logit of default is a sum over five numbers and a category."""
    rng = np.random.default_rng(seed)
    normal, code = rng.normal(size=(rows + 20_000, 8)), rng.integers(0, 6, rows + 20_000)
    logit = normal[:, :5] @ np.array([1.0, -0.7, 0.5, -0.4, 0.3]) + np.linspace(-1, 1, 6)[code]
    logit += np.log(rate / (1 - rate)) - 1.3
    frame = pd.DataFrame(normal, columns=[f"n{index}" for index in range(8)])
    frame["c"] = code.astype(str)
    frame["bad"] = (rng.random(len(frame)) < 1 / (1 + np.exp(-logit))).astype(int)
    number: dict[str, object] = {"kind": "numeric", "unit": "", "minimum": -9, "maximum": 9}
    category: dict[str, object] = {"kind": "categorical", "categories": list(range(6))}
    kinds = {**{f"n{index}": number for index in range(8)}, "c": category}
    features = [
        {"name": name, "reason_code": name, "description": "", "missing": "refused", **kind}
        for name, kind in kinds.items()
    ]
    declaration = FeatureDeclaration.model_validate(
        {"target": {"column": "bad", "default": 1, "repaid": 0}, "features": features}
    )
    data, order = encode(frame, declaration), np.arange(len(frame))
    return data.take(order[:rows]), data.take(order[rows:]), declaration


def auc_of_logistic_regression(training: Dataset, test: Dataset) -> float:
    numbers, codes = slice(0, 8), ["c"]
    columns = make_column_transformer((StandardScaler(), training.frame.columns[numbers]), (OneHotEncoder(), codes))
    model = make_pipeline(columns, LogisticRegression(max_iter=1_000)).fit(training.frame, training.target)
    return float(roc_auc_score(test.target, model.predict_proba(test.frame)[:, 1]))


@pytest.mark.parametrize(
    ("rows", "rate"), [(10_000, 0.005), pytest.param(10_000, 0.03, marks=pytest.mark.soak), (800, 0.2)]
)
def test_few_defaults_are_ranked_as_well_as_by_logistic_regression(rows: int, rate: float) -> None:
    training, test, declaration = draw(rows, rate, seed=1)
    fitted = train(training, declaration, hyperparameters=Hyperparameters().for_rows(rows))
    with torch.no_grad():
        logit = fitted.network(torch.from_numpy(test.numeric), torch.from_numpy(test.categorical)).mean(dim=0)
    reached = roc_auc_score(test.target, logit.numpy())
    assert reached > auc_of_logistic_regression(training, test) - 0.01
    # The heads, the linear models and their blend are all fitted to the rate of default.
    assert torch.sigmoid(logit).mean().item() == pytest.approx(training.target.mean(), rel=0.1)


def test_the_network_predicts_its_out_of_fold_rows_much_as_the_parts_that_did_not_see_them(
    data: Dataset, declaration: FeatureDeclaration
) -> None:
    fitted = train(data, declaration)
    rows = data.take(fitted.out_of_fold_rows)
    with torch.no_grad():
        logit = fitted.network(torch.from_numpy(rows.numeric), torch.from_numpy(rows.categorical)).mean(dim=0).numpy()
    assert np.corrcoef(logit, fitted.out_of_fold_logit)[0, 1] > 0.95
