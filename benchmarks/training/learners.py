"""The trainer and other learners with their defaults: each learns from rows and returns what predicts others."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from contenders import gradient_boosting, without_gaps
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tabm_learner import TabMLearner

from trainer.data.dataset import Dataset
from trainer.data.declaration import FeatureDeclaration
from trainer.learning.calibration import calibrate, find_limits
from trainer.learning.fitting import fit
from trainer.learning.hyperparameters import Hyperparameters

Vector = npt.NDArray[np.float64]
Predict = Callable[[Dataset], Vector]


def ours(training: Dataset, declaration: FeatureDeclaration, seed: int) -> Predict:
    """Train, calibrate and limit as a training run does."""
    fitted = fit(
        training,
        inputs=declaration.inputs,
        hyperparameters=Hyperparameters().for_rows(len(training)),
        seed=seed,
        on_epoch=lambda _: None,
    )
    outcome = training.target[fitted.out_of_fold_rows].astype(np.float64)
    calibration, limits = calibrate(fitted.out_of_fold_logit, outcome), find_limits(fitted.out_of_fold_logit, outcome)

    def predict(rows: Dataset) -> Vector:
        with torch.no_grad():
            logit = fitted.network(torch.from_numpy(rows.numeric), torch.from_numpy(rows.categorical)).mean(dim=0)
        return limits.apply(calibration.apply(logit.numpy().astype(np.float64)))

    return predict


def logistic_regression(training: Dataset, declaration: FeatureDeclaration, seed: int) -> Predict:
    """Fit scaled numbers, medians and an indicator for missing ones, and one-hot categories."""
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
            [feature.name for feature in declaration.numeric],
        ),
        (OneHotEncoder(handle_unknown="ignore"), [feature.name for feature in declaration.categorical]),
    )
    names = list(declaration.names)
    model = make_pipeline(columns, LogisticRegression(max_iter=1_000, random_state=seed))
    model.fit(without_gaps(training.frame[names], declaration), training.target)
    return lambda rows: _second(model.predict_proba(without_gaps(rows.frame[names], declaration)))


def hist_gradient_boosting(training: Dataset, declaration: FeatureDeclaration, seed: int) -> Predict:
    """Fit scikit-learn's HistGradientBoosting."""
    model = gradient_boosting(declaration, seed=seed).fit(training.frame, training.target)
    return lambda rows: _second(model.predict_proba(rows.frame))


def catboost(training: Dataset, declaration: FeatureDeclaration, seed: int) -> Predict:
    """Fit CatBoost: 1,000 trees of depth 6."""
    from catboost import CatBoostClassifier

    names = list(declaration.names)
    model = CatBoostClassifier(
        cat_features=[feature.name for feature in declaration.categorical],
        random_seed=seed,
        thread_count=torch.get_num_threads(),
        verbose=0,
        allow_writing_files=False,
    )
    model.fit(without_gaps(training.frame[names], declaration), training.target)
    return lambda rows: _second(model.predict_proba(without_gaps(rows.frame[names], declaration)))


def lightgbm(training: Dataset, declaration: FeatureDeclaration, seed: int) -> Predict:
    """Fit LightGBM with its own treatment of categories and missing values."""
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(random_state=seed, n_jobs=torch.get_num_threads(), verbose=-1)
    model.fit(_typed(training, declaration), training.target)
    return lambda rows: _second(model.predict_proba(_typed(rows, declaration)))


def xgboost(training: Dataset, declaration: FeatureDeclaration, seed: int) -> Predict:
    """Fit XGBoost with its own treatment of categories and missing values."""
    from xgboost import XGBClassifier

    model = XGBClassifier(random_state=seed, n_jobs=torch.get_num_threads(), enable_categorical=True)
    model.fit(_typed(training, declaration), training.target)
    return lambda rows: _second(model.predict_proba(_typed(rows, declaration)))


def _typed(rows: Dataset, declaration: FeatureDeclaration) -> pd.DataFrame:
    """Return the features with categorical columns of pandas' type, whose categories are those of the declaration."""
    types = {
        feature.name: pd.CategoricalDtype([*feature.categories, *(["other"] if feature.other else [])])
        for feature in declaration.categorical
    }
    frame = rows.frame[list(declaration.names)].astype({feature.name: float for feature in declaration.numeric})
    for feature in declaration.categorical:
        values = frame[feature.name].astype(object)
        if feature.other:
            values = values.where(values.isna() | values.isin(feature.categories), "other")
        frame[feature.name] = values.astype(types[feature.name])
    return frame


def _second(probabilities: npt.NDArray[np.float64]) -> Vector:
    return np.asarray(probabilities[:, 1], dtype=np.float64)


LEARNERS: dict[str, Callable[[Dataset, FeatureDeclaration, int], Predict]] = {
    "ours": ours,
    "logistic regression": logistic_regression,
    "HistGradientBoosting": hist_gradient_boosting,
    "CatBoost": catboost,
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
    "TabM": TabMLearner,
}
