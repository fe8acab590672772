"""The alternatives: a plain training loop, scikit-learn's models, CatBoost, LightGBM, XGBoost, and TabM."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from catboost import CatBoostClassifier
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset, random_split

from trainer.data.dataset import Dataset
from trainer.data.declaration import FeatureDeclaration
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.network import Encoding, RiskNetwork


def plain_loop(training: Dataset, declaration: FeatureDeclaration, *, seed: int) -> Iterator[tuple[RiskNetwork, float]]:
    """Train the trainer's network with Dataset and DataLoader; yield network and validation loss per epoch.

    Like the trainer, it trains on four fifths and keeps one fifth for early stopping. The network has the trainer's
    dropout, which is cheaper than PyTorch's own.
    """
    torch.manual_seed(seed)
    chosen = Hyperparameters().for_rows(len(training))
    encoding = Encoding.fit(training.numeric, declaration.inputs, bins=chosen.bins)
    network = RiskNetwork(encoding, chosen.architecture)
    data = TensorDataset(*(torch.from_numpy(a) for a in (training.numeric, training.categorical, training.target)))
    learned, held = random_split(data, [1 - 1 / chosen.folds, 1 / chosen.folds])
    loader = DataLoader(learned, batch_size=chosen.batch_rows, shuffle=True)
    validation = DataLoader(held, batch_size=chosen.batch_rows)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=chosen.weight_decay)
    while True:
        network.train()
        for numeric, categorical, target in loader:
            logits = network(numeric, categorical)
            loss = binary_cross_entropy_with_logits(logits, target.expand_as(logits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        total = 0.0
        with torch.no_grad():
            for numeric, categorical, target in validation:
                logit = network(numeric, categorical).mean(dim=0)
                total += float(binary_cross_entropy_with_logits(logit, target, reduction="sum"))
        yield network, total / len(held)


def mlp_classifier(declaration: FeatureDeclaration, *, seed: int, batch_rows: int) -> Pipeline:
    """Return an MLPClassifier on scaled numbers and one-hot categories, with its own early stopping."""
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
            [feature.name for feature in declaration.numeric],
        ),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), [f.name for f in declaration.categorical]),
    )
    model = MLPClassifier((64, 64), batch_size=batch_rows, early_stopping=True, n_iter_no_change=4, random_state=seed)
    return make_pipeline(columns, model)


def gradient_boosting(declaration: FeatureDeclaration, *, seed: int) -> Pipeline:
    """Return HistGradientBoosting with its defaults; missing values of either kind stay missing.

    It keeps the directions that are declared for numbers; it knows none for categories.
    """
    columns = make_column_transformer(
        ("passthrough", [feature.name for feature in declaration.numeric]),
        (
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
            [feature.name for feature in declaration.categorical],
        ),
    )
    numbers = len(declaration.numeric)
    categorical = list(range(numbers, numbers + len(declaration.categorical)))
    directions = [feature.direction for feature in declaration.numeric] + [0] * len(categorical)
    model = HistGradientBoostingClassifier(
        categorical_features=categorical, monotonic_cst=directions, random_state=seed
    )
    return make_pipeline(columns, model)


def without_gaps(frame: pd.DataFrame, declaration: FeatureDeclaration) -> pd.DataFrame:
    """Return the rows with a category of its own for missing ones, which CatBoost does not take."""
    names = [feature.name for feature in declaration.categorical]
    return frame.assign(**{name: frame[name].astype(object).where(frame[name].notna(), "missing") for name in names})


def catboost(declaration: FeatureDeclaration, *, seed: int) -> CatBoostClassifier:
    """Return a CatBoost classifier with 600 trees of depth 5 and otherwise its defaults."""
    names = [feature.name for feature in declaration.categorical]
    return CatBoostClassifier(
        iterations=600, depth=5, cat_features=names, random_seed=seed, verbose=0, allow_writing_files=False
    )
