"""Generated data sets whose true probabilities of default are known to nobody but the generator.

Each seed draws another function and other rows of it, so that nothing can be tuned to one of them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import brentq

from trainer.data.declaration import CategoricalFeature, Feature, FeatureDeclaration, NumericFeature, Target

Vector = npt.NDArray[np.float64]
_TARGET = "defaulted"


@dataclass(frozen=True)
class Recipe:
    """What a generated data set is like.

    Attributes:
        rows: Rows to train on.
        default_rate: Expected share of defaults.
        numeric: Number of numeric features; about a third of them have no influence.
        categories: Number of categories of each categorical feature.
        interactions: Number of pairs of features whose product adds to the logit.
        missing: Share of missing values in half of the numeric features.
        spread: Standard deviation of the logit.
    """

    rows: int
    default_rate: float = 0.2
    numeric: int = 10
    categories: tuple[int, ...] = (3, 5, 8)
    interactions: int = 1
    missing: float = 0.0
    spread: float = 1.5


RECIPES = {
    "small": Recipe(rows=800, interactions=1),
    "3 % defaults": Recipe(rows=8_000, default_rate=0.03),
    ".5 % defaults": Recipe(rows=16_000, default_rate=0.005),
    "interactions": Recipe(rows=8_000, interactions=12),
    "many categories": Recipe(rows=8_000, categories=(4, 30, 60, 150)),
    "missing values": Recipe(rows=8_000, missing=0.25, interactions=3),
}


def generate(recipe: Recipe, rows: int, seed: int) -> tuple[pd.DataFrame, FeatureDeclaration]:
    """Draw rows; the same recipe and seed give the same function, and the first rows do not depend on their number.

    Returns:
        The features and the target (1 = default), and the declaration that fits them.
    """
    function, draw = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    normal = draw.normal(size=(rows, recipe.numeric)) @ _mixture(recipe.numeric, function)
    codes = [_codes(draw, count, rows) for count in recipe.categories]
    numbers = np.stack([_shape(column, index) for index, column in enumerate(normal.T)], axis=1)
    logit = _logit(recipe, normal, codes, function)
    hidden = draw.random(numbers.shape) < recipe.missing * 2 / (1 + np.exp(-normal))
    hidden[:, recipe.numeric // 2 :] = False
    # That a value is missing says something beyond the value itself.
    logit = recipe.spread * (logit - logit.mean()) / logit.std() + 0.5 * hidden[:, ::2].sum(axis=1)
    shift = brentq(lambda by: float(_sigmoid(logit + by).mean()) - recipe.default_rate, -30, 30)
    frame = pd.DataFrame(np.where(hidden, np.nan, numbers), columns=[f"number_{n}" for n in range(recipe.numeric)])
    for index, column in enumerate(codes):
        frame[f"category_{index}"] = np.char.add("c", column.astype("U4"))
    frame[_TARGET] = (draw.random(rows) < _sigmoid(logit + shift)).astype(np.int64)
    return frame, _declaration(frame, recipe)


def _sigmoid(logit: Vector) -> Vector:
    return np.asarray(1 / (1 + np.exp(-logit)))


def _mixture(size: int, rng: np.random.Generator) -> Vector:
    """Return a matrix that makes independent normal columns correlated ones of variance 1."""
    mixed = np.eye(size) + 0.25 * rng.normal(size=(size, size))
    return np.asarray(mixed / np.linalg.norm(mixed, axis=0))


def _codes(rng: np.random.Generator, count: int, rows: int) -> npt.NDArray[np.int64]:
    """Draw categories of which the first are far more frequent than the last."""
    share = 1 / np.arange(1, count + 1) ** 0.8
    return rng.choice(count, rows, p=share / share.sum())


def _shape(column: Vector, index: int) -> Vector:
    """Turn a standard normal column into one like those of loan data: amounts, counts, ratios, ages."""
    shapes = (
        lambda z: np.exp(10 + 0.7 * z).round(2),
        lambda z: np.floor(np.exp(0.4 + 0.9 * z)),
        lambda z: (1 / (1 + np.exp(1.5 - z))).round(3),
        lambda z: (45 + 12 * z).clip(18, 90).round(),
        lambda z: z,
    )
    return np.asarray(shapes[index % len(shapes)](column))


def _logit(recipe: Recipe, normal: Vector, codes: list[npt.NDArray[np.int64]], rng: np.random.Generator) -> Vector:
    influential = max(2, 2 * recipe.numeric // 3)
    effects = []
    for index in rng.permutation(recipe.numeric)[:influential]:
        z, kind = normal[:, index], rng.integers(4)
        bent = (z, np.tanh(1.5 * z), np.maximum(z - 0.5, 0) * 1.5, np.abs(z + 0.3))[kind]
        effects.append(rng.normal() * bent)
    for column, count in zip(codes, recipe.categories, strict=True):
        effects.append(0.8 * rng.normal(size=count)[column])
    for _ in range(recipe.interactions):
        first, second = rng.choice(recipe.numeric, 2, replace=False)
        product = normal[:, first] * normal[:, second]
        step = (normal[:, first] > 0.3) * (normal[:, second] > 0) * 2.0
        effects.append(0.8 * rng.normal() * (product if rng.random() < 0.5 else step))
    return np.asarray(np.sum(effects, axis=0))


def _declaration(frame: pd.DataFrame, recipe: Recipe) -> FeatureDeclaration:
    numbers: list[Feature] = [
        NumericFeature(
            name=f"number_{index}",
            kind="numeric",
            unit="",
            minimum=-1e9,
            maximum=1e9,
            missing="allowed" if frame[f"number_{index}"].isna().any() else "refused",
            description="a number",
            reason_code=f"N{index}",
        )
        for index in range(recipe.numeric)
    ]
    categories: list[Feature] = [
        CategoricalFeature(
            name=f"category_{index}",
            kind="categorical",
            categories=tuple(f"c{code}" for code in range(count)),
            missing="refused",
            description="a category",
            reason_code=f"C{index}",
        )
        for index, count in enumerate(recipe.categories)
    ]
    target = Target(column=_TARGET, default=("1",), repaid=("0",))
    return FeatureDeclaration(target=target, features=(*numbers, *categories))
