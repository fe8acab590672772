"""Settle what a declaration leaves to the data: what may be missing, and which categories are learned on their own."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data.declaration import CategoricalFeature, Feature, FeatureDeclaration

Rows = npt.NDArray[np.bool_]


def resolve(declaration: FeatureDeclaration, frame: pd.DataFrame, training: Rows) -> FeatureDeclaration:
    """Return the declaration that the model contract is written from.

    A feature may be missing if it is declared so or if it has `missing_values`; if that is left open, it may if it is
    missing in any row. Where `other` is declared, the categories that remain are the common ones of the training rows.

    Args:
        declaration: As read from its file.
        frame: All validated rows (see `validation.validate`), N of them.
        training: Which of them are trained on, bool [N].
    """
    return declaration.model_copy(
        update={"features": tuple(_resolve(feature, frame[feature.name], training) for feature in declaration.features)}
    )


def _resolve(feature: Feature, values: pd.Series, training: Rows) -> Feature:
    missing = feature.missing or ("allowed" if feature.missing_values or values.isna().any() else "refused")
    update: dict[str, object] = {"missing": missing}
    if isinstance(feature, CategoricalFeature) and feature.other:
        update["categories"] = _common_categories(feature, values[training])
    return feature.model_copy(update=update)


def _common_categories(feature: CategoricalFeature, values: pd.Series) -> tuple[str, ...]:
    """Return the categories that are frequent enough: those of the list, in its order, or all if there is no list."""
    if not feature.other:
        return feature.categories
    counts = values.value_counts()
    counts = counts[counts > 0].rename(index=str)
    limit = max(feature.other.minimum_rows, feature.other.minimum_share * len(values))
    common = {str(category) for category, count in counts.items() if count >= limit}
    kept = tuple(category for category in feature.categories or sorted(common) if category in common)
    # At least one, since the reference applicant needs a category.
    return kept or (_most_frequent(feature, counts),)


def _most_frequent(feature: CategoricalFeature, counts: pd.Series) -> str:
    listed = [category for category in feature.categories if category in counts.index]
    return max(listed, key=lambda category: int(counts[category])) if listed else str(counts.index[0])


def missing_shares(declaration: FeatureDeclaration, frame: pd.DataFrame) -> dict[str, float]:
    """Return the share of rows without a value per feature."""
    return {name: float(frame[name].isna().mean()) for name in declaration.names}


def other_shares(declaration: FeatureDeclaration, frame: pd.DataFrame) -> dict[str, float]:
    """Return the share of rows with a category outside the list per feature that accepts those."""
    return {
        feature.name: float((frame[feature.name].notna() & ~frame[feature.name].isin(feature.categories)).mean())
        for feature in declaration.categorical
        if feature.other
    }
